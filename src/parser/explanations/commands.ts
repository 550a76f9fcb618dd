// Commands of the user's own: run blocks, and what they write.

import type { Explanations } from './explanation.ts';

const report = `run report { command = "wc -c {lora} > {text}"  inputs = { lora = style }  outputs = { text = "report.txt" } }`;

export const commands: Explanations = {
  'format-of-file': {
    means: `"format" chooses what the modules of a LoRA are called in its file. This output of a run is no LoRA: only one
whose name ends in .safetensors is.`,
    wrong: `${report}\nsave "report.txt" { from = report.text  format = kohya }`,
    right: `${report}\nsave "report.txt" { from = report.text }`,
  },
  'input-and-output': {
    means: `One name stands for an input and for an output of the run, and {name} in the command can be only one of them.`,
    wrong: `run half { command = "half {lora}"  inputs = { lora = style }  outputs = { lora = "half.safetensors" } }`,
    right: `run half { command = "half {lora} {small}"  inputs = { lora = style }  outputs = { small = "half.safetensors" } }`,
  },
  'no-lora-output': {
    means: `A LoRA is needed, and the output of the run that is named is none. Whether it is one, the end of its name says:
.safetensors.`,
    wrong: `${report}\nchop tiny { from = report.text  keep = [OUT01] }`,
    right: `run half { command = "half {lora} {small}"  inputs = { lora = style }  outputs = { small = "half.safetensors" } }
chop tiny { from = half.small  keep = [OUT01] }`,
  },
  'no-output': {
    means: `A run can write several files, so the one that is meant is named behind a dot: report.text is what the run
"report" writes as {text}. A training that makes pictures has two of them together: raw.montage and raw.animation.`,
    wrong: `${report}\nsave "report.txt" { from = report }`,
    right: `${report}\nsave "report.txt" { from = report.text }`,
  },
  'odd-name': {
    means: `Inputs, outputs and environment variables of a run have names of letters from a to z, digits and underscores, as
shells want them.`,
    wrong: `run report { command = "wc -c {lora} > {text}"  inputs = { lora = style }  outputs = { text = "report.txt" }  env = { "LC-ALL" = "C" } }`,
    right: `run report { command = "wc -c {lora} > {text}"  inputs = { lora = style }  outputs = { text = "report.txt" }  env = { LC_ALL = "C" } }`,
  },
  'output-outside': {
    means: `A command writes into a folder that lorac makes for it, and what it wrote is stored from there. So an output has a
plain name; a save block puts it where you want to have it.`,
    wrong: `run report { command = "wc -c {lora} > {text}"  inputs = { lora = style }  outputs = { text = "../report.txt" } }`,
    right: `${report}\nsave "../report.txt" { from = report.text }`,
  },
  'quoted-placeholder': {
    means: `Paths are quoted when they are put into the command, so that no name of a file can be taken for something else. In
quotes of your own, in backticks, in arithmetic and behind << a shell would read them otherwise.`,
    wrong: `run report { command = 'wc -c "{lora}" > {text}'  inputs = { lora = style }  outputs = { text = "report.txt" } }`,
    right: `run report { command = 'wc -c {lora} > {text}'  inputs = { lora = style }  outputs = { text = "report.txt" } }`,
  },
  'same-output': {
    means: `Two outputs of the run would be one file, or one would be a folder that the other lies in. Some systems take two
names that differ in capital letters alone for one.`,
    wrong: `run half { command = "half {a} {b}"  outputs = { a = "half.txt"  b = "Half.txt" } }`,
    right: `run half { command = "half {a} {b}"  outputs = { a = "first.txt"  b = "second.txt" } }`,
  },
  'save-suffix': {
    means: `What a run wrote is saved under a name with the same end, since programs go by it.`,
    wrong: `${report}\nsave "report.md" { from = report.text }`,
    right: `${report}\nsave "notes.txt" { from = report.text }`,
  },
  'undeclared-name': {
    means: `The command has a name in braces that is no input and no output of the run. Braces that the shell is to see stand
in quotes.`,
    wrong: `run report { command = "wc -c {tool} > {text}"  outputs = { text = "report.txt" } }`,
    right: `run report { command = "wc -c {tool} > {text}"  inputs = { tool = "prompts.txt" }  outputs = { text = "report.txt" } }`,
  },
  'unused-name': {
    means: `An input or an output is declared, and the command does not name it. Nothing would be read from it, or nobody would
know where to write it.`,
    wrong: `run report { command = "python report.py > {text}"  inputs = { script = "prompts.txt" }  outputs = { text = "report.txt" } }`,
    right: `run report { command = "python {script} > {text}"  inputs = { script = "prompts.txt" }  outputs = { text = "report.txt" } }`,
  },
};
