// The language reference: every block and attribute, printed from the schema table.

import { needs, rangeOf, writeValue } from '../diagnostics/describe.ts';
import { blockDocs, blockKinds, fieldsOf, lacking, needless } from '../schema/schema.ts';
import type { Fields, Setting, Type } from '../schema/types.ts';
import { mostVariants } from '../sweeps/variants.ts';
import { runText } from './language-run.ts';

/** The whole of `docs/language.md`. */
export function languageText(): string {
  const blocks = blockKinds.map((kind) => `## ${kind}\n\n${blockDocs[kind]}\n\n${attributeTable(fieldsOf(kind))}`);
  return `${intro}\n${sweepText}\n${runText}\n${blocks.join('\n')}
## Settings of other trainers that need no attribute

${reasonTable(needless)}
## Settings of other trainers that lorac does not have

${reasonTable(lacking)}`;
}

function reasonTable(reasons: { readonly [flag: string]: string }): string {
  const rows = Object.entries(reasons).map(([flag, reason]) => `| \`${flag}\` | ${cell(reason)} |`);
  return `| setting | why |\n|---|---|\n${rows.join('\n')}\n`;
}

const intro = `# The language

A \`.lora\` file says what is to exist. \`lorac check FILE\` tells what is wrong with one, \`lorac build FILE\` makes it so.
This page is printed from the schema table, \`src/parser/schema/schema.ts\`.

A program is a list of blocks, \`kind name { attribute = value … }\`, in any order. \`#\` and \`//\` begin comments. Line breaks
mean nothing, and commas between attributes are optional.

| statement | |
|---|---|
| \`kind name { … }\` | a block: one thing that is to exist |
| \`kind name extends other { … }\` | the attributes of another block of the same kind, with these over them; records are merged, lists are replaced |
| \`import "file.lora"\` | the blocks, lets and params of another file, under their own names |
| \`import "file.lora" as kohya\` | the same, with a name before them: \`train mine extends kohya.raw { … }\`, \`-p kohya.name=other\` |
| \`import "lorac:guide" as guide\` | a preset that comes with lorac; \`lorac presets\` lists them, \`lorac presets guide\` prints one |
| \`let name = value\` | a name for a value |
| \`param name = value\` | the same, and \`lorac build -p name=other\` sets it; without a value it has to be set |

| value | |
|---|---|
| \`3e-4\`, \`1_000\`, \`-2\`, \`2 ** 3 + 1\` | numbers and arithmetic: \`+ - * / **\` and parentheses |
| \`"text"\`, \`"\${name}.safetensors"\` | text on one line; \`\${…}\` is the value of an expression, \`\\"\`, \`\\\\\`, \`\\n\`, \`\\t\` and \`\\$\` stand for single characters |
| \`'C:\\pics'\` | text as it stands, without escapes |
| \`env("NAME", "default")\` | a variable of the environment, read as \`-p\` would: where the default is text, as text. Without a default it has to be set. What is made depends on its value, and not on where that comes from |
| \`true\`, \`false\` | |
| \`1024x768\` | a size: width, height |
| \`30s\`, \`5min\`, \`1h30min\` | a duration |
| \`1024px\`, \`20MB\`, \`12%\` | a number with its unit, where an attribute counts pixels, MiB, or is a share: \`1024\`, \`19.07\`, \`0.12\` say the same. \`MB\` is a million bytes, \`MiB\` 1,048,576; \`%\` is no operator |
| \`[a, b]\` | a list |
| \`{ a = 1  b = 2 }\`, \`SAVEUS { … }\` | a record, and one with a tag; attributes that are not written have their defaults |
| \`{ "TE2.1*" = 0 }\` | a key that is no word stands in quotes; any key may |
| \`pony\` | a word: the name of a block, a let or a param, or one of the words that an attribute knows |
| \`raw@40\` | where a LoRA is asked for: what the training \`raw\` saved after step 40 |
| \`raw@best\` | the same of that step whose loss on held-out images was the lowest (see \`validation\`) |
| \`raw@ema\` | the moving average that the training \`raw\` kept (see \`ema\`) |
| \`raw@ema(0.9)\` | the moving average of the steps that \`save_every\` keeps: each further one counts 0.1, all before it 0.9 |
| \`report.text\` | what the run \`report\` writes as \`text\`: see [below](#commands-of-your-own) |
| \`sweep [1, 2]\`, \`sweep { low = 1  high = 2 }\` | several values in the place of one: see [below](#sweep) |
| \`small[thr=-3]\` | where a block is asked for: the variants of it that have this value |
| \`step ** 0.25\` | a schedule: arithmetic over \`step\`, for attributes that take one. It has to have a value from 0 on at every step of the training |

The path of an import starts at the folder of the file that has it. What that file imports comes with it. A name means what
it means in the file that wrote it, so an imported file does not change by being imported. Of an imported file nothing is
made but what the program's own blocks are made from: its other blocks are there to be extended, and may leave out what
has to be written, such as \`base\` and \`data\` of a training. Its \`save\` blocks are never made, since nothing can name
them. A program can import 100 files.

Relative paths start at the folder of the \`.lora\` file that wrote them, and \`~\` is the home folder. Blocks of the network are \`IN00\` to
\`IN08\`, \`MID00\` to \`MID02\`, \`OUT00\` to \`OUT08\`, \`TE1\`, \`TE2\`, and \`REST\` for time, label, in and out layers; \`IN\`, \`MID\`,
\`OUT\` and \`TE\` stand for all of theirs, and patterns such as \`"OUT0*"\` for all that fit. \`OUT1\`, \`INP01\`, \`M1\` and
\`output_blocks.1\` are understood. The layers of the text encoders are \`TE1.0\` to \`TE1.11\` and \`TE2.0\` to \`TE2.31\`; a
pattern means layers where it has the dot, as in \`"TE2.1*"\`. Quotes are needed for patterns alone.

Blocks that are LoRAs, and can stand wherever one is needed, are \`train\`, \`lora\`, \`resize\`, \`chop\` and \`merge\`. The base of
a LoRA is the checkpoint that it was trained on: a \`train\` block has it, a \`lora\` block may say it, what is made from a
LoRA has the same, and a merge that of the first of its parts, by name, that has one.
`;

const sweepText = `## sweep

\`thr = sweep [-3.0, -3.55, -4.0]\` makes the block once for each value, and once for each value what is made from it: the
*variants* \`small[thr=-3.0]\`, \`small[thr=-3.55]\` and \`small[thr=-4.0]\`. A sweep can stand behind the \`=\` of any attribute,
also inside of braces, and of a \`let\` or a \`param\`. To use one in a list, in arithmetic or in text, give it a name:
\`let t = sweep [1, 2]\`. A param takes several values from the command line as well: \`-p 't=sweep [1, 2]'\`.

- **Several sweeps multiply**, those of a block with those of what it is made from. A sweep is known by the place where it
  is written: one \`let\` that two blocks use varies both together, and so does one block that is used in two ways.
- **Names.** A variant is called by its values, as they are written. Values that are long, or have characters that no file
  name has, need names: \`unet_lr = sweep { gentle = 1e-4  strong = 3e-4 }\` makes \`raw[unet_lr=gentle]\`. Where two sweeps
  have one name, the longer form tells them apart: \`tiny[small.thr=-3,less.thr=-4]\`.
- **\`exclude\`** leaves out combinations, in any block: \`exclude = [{ thr = -3  dim = 8 }, { dim = 16 }]\`. What is made from
  them is not made either.
- **One variant** of a block is named like it is shown: \`from = small[thr=-3.55]\`, \`raw[dim=8]@40\`. With less than all of
  its values it is all variants that have those. On the command line \`lorac build hero.lora 'small[thr=-3.55]'\` makes one,
  and \`small\` all of them; so does \`--rerun\`.
- **Paths.** Variants that would be saved to one path are an error. In text, \`\${t}\` is the value of the sweep named \`t\`, and
  \`\${small.thr}\` what the block \`small\` says of \`thr\`: \`save "hero\${small.thr}.safetensors" { from = small }\`. Values
  stand there as they are written, those with names under their names.
- **A preview takes all variants** of the LoRAs in its list, as columns of one picture. Every other block is made once for
  each variant, merges too: \`{ small = 0.8  style = 0.5 }\` is a merge for each \`small\`.

A variant is the same work as the block with that value written plainly: one more value makes one more variant, and all
others stay as they are. A block has at most ${mostVariants} variants.
`;

function attributeTable(fields: Fields): string {
  const rows = Object.entries(fields).flatMap(([name, field]) => [row(name, field), ...innerRows(name, field.type)]);
  return `| attribute | value | default | |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

/** The attributes of a record stand below it, with its name in front. */
function innerRows(name: string, type: Type): string[] {
  if (type.kind === 'record')
    return Object.entries(type.fields).map(([inner, field]) => row(`${name}.${inner}`, field));
  if (type.kind !== 'tagged') return [];
  return Object.entries(type.variants).flatMap(([tag, fields]) =>
    Object.entries(fields).map(([inner, field]) => row(`${name} = ${tag}.${inner}`, field)),
  );
}

function row(name: string, field: Setting): string {
  const notes = [field.doc];
  if (field.synonyms.length > 0) notes.push(`Elsewhere: ${field.synonyms.map((word) => `\`${word}\``).join(', ')}.`);
  if (!field.fingerprint) notes.push('A change of it never makes anything again.');
  return `| \`${name}\` | ${cell(valueText(field.type))} | ${defaultText(field)} | ${cell(notes.join(' '))} |`;
}

function valueText(type: Type): string {
  if (type.kind !== 'number') return needs(type);
  const range = rangeOf(type);
  return range === undefined ? needs(type) : `${needs(type)}, ${range}`;
}

function defaultText({ type, default: value, required }: Setting): string {
  if (required) return 'has to be written';
  return value === undefined ? '' : `\`${cell(writeValue(type, value))}\``;
}

const cell = (text: string) => text.replaceAll('|', '\\|');
