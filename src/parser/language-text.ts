// The language reference: every block and attribute, printed from the schema table.

import { needs, rangeOf, writeValue } from './describe.ts';
import { blockDocs, blockKinds, fieldsOf, needless } from './schema.ts';
import type { Fields, Setting, Type } from './schema-types.ts';

/** The whole of `docs/language.md`. */
export function languageText(): string {
  const blocks = blockKinds.map((kind) => `## ${kind}\n\n${blockDocs[kind]}\n\n${attributeTable(fieldsOf(kind))}`);
  const reasons = Object.entries(needless).map(([flag, reason]) => `| \`${flag}\` | ${cell(reason)} |`);
  return `${intro}\n${blocks.join('\n')}
## Settings of other trainers that have no attribute

| setting | why |
|---|---|
${reasons.join('\n')}
`;
}

const intro = `# The language

A \`.lora\` file says what is to exist. \`lorac check FILE\` tells what is wrong with one, \`lorac build FILE\` makes it so.
This page is printed from the schema table, \`src/parser/schema.ts\`.

A program is a list of blocks, \`kind name { attribute = value … }\`, in any order. \`#\` and \`//\` begin comments. Line breaks
mean nothing, and commas between attributes are optional.

| statement | |
|---|---|
| \`kind name { … }\` | a block: one thing that is to exist |
| \`kind name extends other { … }\` | the attributes of another block of the same kind, with these over them; records are merged, lists are replaced |
| \`let name = value\` | a name for a value |
| \`param name = value\` | the same, and \`lorac build -p name=other\` sets it; without a value it has to be set |

| value | |
|---|---|
| \`3e-4\`, \`1_000\`, \`-2\`, \`2 ** 3 + 1\` | numbers and arithmetic: \`+ - * / **\` and parentheses |
| \`"text"\`, \`"\${name}.safetensors"\` | text on one line; \`\${…}\` is the value of an expression, \`\\"\`, \`\\\\\`, \`\\n\`, \`\\t\` and \`\\$\` stand for single characters |
| \`'C:\\pics'\` | text as it stands, without escapes |
| \`true\`, \`false\` | |
| \`1024x768\` | a size: width, height |
| \`30s\`, \`5min\`, \`2h\` | a duration |
| \`[a, b]\` | a list |
| \`{ a = 1  b = 2 }\`, \`SAVEUS { … }\` | a record, and one with a tag; attributes that are not written have their defaults |
| \`{ "TE2.1*" = 0 }\` | a key that is no word stands in quotes; any key may |
| \`pony\` | a word: the name of a block, a let or a param, or one of the words that an attribute knows |
| \`raw@40\` | where a LoRA is asked for: what the training \`raw\` saved after step 40 |
| \`raw@best\` | the same of that step whose loss on held-out images was the lowest (see \`validation\`) |
| \`raw@ema(0.9)\` | the moving average of the steps that \`save_every\` keeps: each further one counts 0.1, all before it 0.9 |
| \`step ** 0.25\` | a schedule: arithmetic over \`step\`, for attributes that take one |

Relative paths start at the folder of the \`.lora\` file, and \`~\` is the home folder. Blocks of the network are \`IN00\` to
\`IN08\`, \`MID00\` to \`MID02\`, \`OUT00\` to \`OUT08\`, \`TE1\`, \`TE2\`, and \`REST\` for time, label, in and out layers; \`IN\`, \`MID\`,
\`OUT\` and \`TE\` stand for all of theirs, and patterns such as \`"OUT0*"\` for all that fit. \`OUT1\`, \`INP01\`, \`M1\` and
\`output_blocks.1\` are understood. The layers of the text encoders are \`TE1.0\` to \`TE1.11\` and \`TE2.0\` to \`TE2.31\`; a
pattern means layers where it has the dot, as in \`"TE2.1*"\`. Quotes are needed for patterns alone.

Blocks that are LoRAs, and can stand wherever one is needed, are \`train\`, \`lora\`, \`resize\`, \`chop\` and \`merge\`. The base of
a LoRA is the checkpoint that it was trained on: a \`train\` block has it, a \`lora\` block may say it, what is made from a
LoRA has the same, and a merge that of the first of its parts, by name, that has one.
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
