// How a program is written: signs, quotes, brackets.

import type { Explanations } from './explanation.ts';

export const writing: Explanations = {
  'bad-escape': {
    means: `In double quotes a backslash begins a special character: \\n, \\t, \\", \\\\, \\$. Windows paths are full of
backslashes that are meant as they stand. Put such a path into single quotes, or write it with forward slashes.`,
    wrong: `checkpoint pony { path = "C:\\models\\pony.safetensors" }`,
    right: `checkpoint pony { path = 'C:\\models\\pony.safetensors' }`,
  },
  'bad-name': {
    means: `Names of blocks are made of letters, digits and "_", and begin with a letter, so that they can be used without
quotes elsewhere.`,
    wrong: `resize my-small { from = style }`,
    right: `resize my_small { from = style }`,
  },
  'bare-text': {
    means: `Text stands between quotes: paths, prompts, endings of files. Without them lorac cannot tell where it ends.`,
    wrong: `checkpoint pony { path = models/pony.safetensors }`,
    right: `checkpoint pony { path = "models/pony.safetensors" }`,
  },
  colon: {
    means: `Other files use ":" between a name and its value. In a program it is "=".`,
    wrong: `checkpoint pony { path: "pony.safetensors" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'empty-interpolation': {
    means: `Between "\${" and "}" stands the name of a let or a param, whose value becomes a part of the text.`,
    wrong: `save "\${}.safetensors" { from = raw }`,
    right: `param name = "hero"\n\nsave "\${name}.safetensors" { from = raw }`,
  },
  'extra-equals': {
    means: `A block is its kind, its name and a pair of braces, with nothing between. "=" belongs to attributes.`,
    wrong: `checkpoint pony = { path = "pony.safetensors" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'missing-brace': {
    means: `After the name of a block come its attributes, between "{" and "}".`,
    wrong: `checkpoint pony path = "pony.safetensors" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'missing-comma': {
    means: `The items of a list have commas between them. (Attributes in braces need none.)`,
    wrong: `chop tiny { from = style  keep = [OUT01 OUT02] }`,
    right: `chop tiny { from = style  keep = [OUT01, OUT02] }`,
  },
  'missing-equals': {
    means: `An attribute is its name, "=" and its value.`,
    wrong: `checkpoint pony { path "pony.safetensors" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'missing-name': {
    means: `A block has a name, by which others refer to it; a save block has the path that it saves to.`,
    wrong: `checkpoint { path = "pony.safetensors" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'missing-value': {
    means: `There is a name and nothing behind it. Write a value, or take the name out: then the default counts.`,
    wrong: `resize small { from = style  thr = }`,
    right: `resize small { from = style  thr = -3.5 }`,
  },
  'odd-number': {
    means: `Numbers are written 80, 0.5, 3e-4 or 1_000, with a point and without a unit. Durations end in s, min or h.
Sizes are two numbers with an "x" between, without blanks: 1024x768.`,
    wrong: `dataset hero { images = "images"  resolution = 1024 x 768 }`,
    right: `dataset hero { images = "images"  resolution = 1024x768 }`,
  },
  'odd-quotes': {
    means: `Web pages and word processors turn quotes into curly ones. A program has straight ones: "…" or '…'.`,
    wrong: `checkpoint pony { path = “pony.safetensors” }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'open-interpolation': {
    means: `In double quotes "\${" begins the name of a let or a param, and "}" ends it. To have the two characters
themselves, write "\\\${", or use single quotes.`,
    wrong: `checkpoint pony { path = "models/\${pony.safetensors" }`,
    right: `checkpoint pony { path = 'models/\${pony.safetensors' }`,
  },
  'open-text': {
    means: `Text ends with the quote that it begins with, on the same line.`,
    wrong: `checkpoint pony { path = "pony.safetensors }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'outside-block': {
    means: `Attributes belong to a block and stand between its braces. A value that several blocks use is a let.`,
    wrong: `resize small { from = style }\nthr = -3.5`,
    right: `resize small { from = style  thr = -3.5 }`,
  },
  'slash-star': {
    means: `A comment begins with # or // and ends with its line. For several lines, begin each of them so.`,
    wrong: `/* the base model */\ncheckpoint pony { path = "pony.safetensors" }`,
    right: `# the base model\ncheckpoint pony { path = "pony.safetensors" }`,
  },
  'too-deep': {
    means: `Brackets stand in brackets more than forty times over, or one value has more than sixty operators. Most likely a
bracket was pasted too often. If it is meant, take a part of it out into a let.`,
    wrong: `let a = ${'['.repeat(45)}1${']'.repeat(45)}\ncheckpoint pony { path = "pony.safetensors" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  unclosed: {
    means: `A bracket was opened and never closed. lorac takes the next block as the end of it, so what is wrong may stand
some lines above: count the "}".`,
    wrong: `checkpoint pony {\n  path = "pony.safetensors"\n\nresize small { from = style }`,
    right: `checkpoint pony {\n  path = "pony.safetensors"\n}\n\nresize small { from = style }`,
  },
  unexpected: {
    means: `Something stands where nothing of its kind can stand. Often a sign is left over, a value is missing before it, or
a number has a comma where its point should be.`,
    wrong: `resize small { from = style  thr = -3,55 }`,
    right: `resize small { from = style  thr = -3.55 }`,
  },
  'unexpected-character': {
    means: `This character has no meaning in a program. ";" is not needed between attributes; shares are written 0.5.`,
    wrong: `resize small { from = style; thr = -3.5 }`,
    right: `resize small { from = style  thr = -3.5 }`,
  },
  unopened: {
    means: `A closing bracket closes nothing: there is one too many, or its opening one was deleted.`,
    wrong: `resize small { from = style } }`,
    right: `resize small { from = style }`,
  },
};
