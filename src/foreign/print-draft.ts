// The text of a program from its draft: what differs from the defaults, line by line, and what had no place, as comments
// with their reasons.

import { cleanLine } from '../parser/clean-text.ts';
import { writeText } from '../parser/reading/literals.ts';
import { fieldsOf } from '../parser/schema/schema.ts';
import type { Draft, DraftBlock, DraftValue } from './draft.ts';
import { showPlain } from './plain.ts';
import { type Left, splitAtVariables, variablesIn, withDollars } from './recipe.ts';
import { isUsual, write } from './write-values.ts';

export function printDraft(draft: Draft): string {
  const parts = [
    `# Imported from ${draft.from} by lorac import.`,
    ...params(draft),
    ...draft.blocks.map(printBlock),
    ...further(draft),
    ...usual(draft),
    ...leftovers('Not carried over, and why', draft.lost),
    ...leftovers('Needs no word here', draft.needless),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** A shell variable that was not pasted has to be set: `lorac build -p MODEL=/models/pony.safetensors`. */
function params(draft: Draft): readonly string[] {
  const texts = draft.blocks.flatMap(({ name, values }) => [name, ...[...values.values()].map(({ value }) => value)]);
  const names = new Set(texts.flatMap((text) => variablesIn(JSON.stringify(text) ?? '')));
  if (names.size === 0) return [];
  const lines = [...names].map((name) => `param ${name}`);
  return [
    `# Shell variables of the command: write their values behind a "=", or give them: lorac build -p ${[...names][0]}=…\n${lines.join('\n')}`,
  ];
}

/** What other trainers leave to other programs: two lines that somebody can take. */
function further({ blocks }: Draft): readonly string[] {
  if (blocks.some(({ kind }) => kind === 'resize' || kind === 'chop')) return [];
  const trained = blocks.find(({ kind }) => kind === 'save')?.values.get('from')?.value ?? 'raw';
  return [
    [
      '# To go on from there, take these lines, and save from the last:',
      `# resize small { from = ${trained}  fro_ckpt = 1  thr = -3.55 }`,
      '# chop tiny { from = small  keep = [OUT01] }',
    ].join('\n'),
  ];
}

/** What the source writes as lorac has it anyway: one comment, so that nobody looks for it in vain. */
function usual(draft: Draft): readonly string[] {
  const lines = draft.blocks.flatMap(({ kind, name, values }) => {
    const fields = fieldsOf(kind);
    const same = [...values].flatMap(([field, { value, always }]) => {
      const row = fields[field];
      return row === undefined || always || !isUsual(row.type, value, row.default)
        ? []
        : [row.type.kind === 'record' ? field : `${field} = ${write(row.type, value)}`];
    });
    return same.length === 0 ? [] : wrap(`${kind} ${name}:`, same);
  });
  return lines.length === 0
    ? []
    : [['# The same as without a word, and so not written:', ...lines.map(comment)].join('\n')];
}

/** A list as lines of a comment, none of its items cut. */
function wrap(heading: string, items: readonly string[]): readonly string[] {
  const lines = [`  ${heading}`];
  for (const [at, item] of items.entries()) {
    const piece = at === items.length - 1 ? item : `${item},`;
    const longer = `${lines.at(-1)} ${piece}`;
    if (longer.length <= 110) lines[lines.length - 1] = longer;
    else lines.push(`    ${piece}`);
  }
  return lines;
}

/** What is written of a block, in the order of the table. */
function linesOf({ kind, values }: DraftBlock): readonly { field: string; text: string; note: string | undefined }[] {
  const fields = fieldsOf(kind);
  const names = Object.keys(fields).filter((field) => values.has(field));
  return names.flatMap((field) => {
    const row = fields[field];
    const { value, note: behind, always } = values.get(field) as DraftValue;
    if (row === undefined || (!always && isUsual(row.type, value, row.default))) return [];
    return [{ field, text: write(row.type, value), note: behind }];
  });
}

function printBlock(block: DraftBlock): string {
  const { kind, name, note } = block;
  const lines = linesOf(block);
  const heading = `${kind} ${kind === 'save' ? quotedPath(name) : name}`;
  const before = note === undefined ? '' : `${comment(note)}\n`;
  const [only] = lines;
  if (lines.length === 1 && only?.note === undefined) return `${before}${heading} { ${only?.field} = ${only?.text} }`;
  const width = Math.max(0, ...lines.map(({ field }) => field.length));
  const body = lines.map(
    ({ field, text, note: behind }) =>
      `  ${field.padEnd(width)} = ${text}${behind === undefined ? '' : `  # ${behind}`}`,
  );
  return `${before}${heading} {\n${body.join('\n')}\n}`;
}

/** The name of a save block is a path, with `${NAME}` where a shell variable stood. */
function quotedPath(path: string): string {
  const pieces = splitAtVariables(path.replaceAll('\\', '/'));
  return `"${pieces.map((piece) => (typeof piece === 'string' ? writeText(piece).slice(1, -1) : `\${${piece.variable}}`)).join('')}"`;
}

function leftovers(title: string, list: readonly Left[]): readonly string[] {
  if (list.length === 0) return [];
  const lines = list.map(({ name, value, reason }) => comment(`  ${name}${shown(name, value)}: ${reason}`));
  return [[`# ${title}:`, ...lines].join('\n')];
}

/** Programs are passed on, so what is secret stays in the source. */
function shown(name: string, value: Left['value']): string {
  if (value === '' || value === true) return '';
  return /(?:^|_)(?:token|api_key|password|secret)$/i.test(name) ? ' = …' : ` = ${withDollars(showPlain(value))}`;
}

/** Whatever stands in the source, it stays one comment. */
const comment = (text: string) => `# ${cleanLine(text)}`.trimEnd();
