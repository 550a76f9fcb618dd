// Above each block: how it stands in the store, and what can be done about it. Beside its name: what its settings come to.

import type { CodeLens, InlayHint } from 'vscode-languageserver/node';
import type { CheckedBlock } from '../parser/model.ts';
import { count, size } from '../tui/units.ts';
import type { OpenFile } from './open-file.ts';
import { rangeOf } from './positions.ts';
import { type BlockState, imageCount, type States } from './states.ts';

/** Of the server: tells why a block stands as it does. */
export const WHY = 'lorac.why';
/** Of the editor, where it says that it has it: builds one block. */
export const BUILD = 'lorac.build';

export function lensesOf(file: OpenFile, states: States, commands: ReadonlySet<string>): CodeLens[] {
  return [...byHeader([...states.values()], ({ block }) => block)].flatMap(([{ block }, variants]) => {
    const range = headerRange(file, block);
    if (range === undefined) return [];
    const why = { title: titleOf(variants), command: WHY, arguments: [file.uri, writtenName(block)] };
    const build = { title: 'build', command: BUILD, arguments: [file.uri, writtenName(block)] };
    return [why, ...(commands.has(BUILD) ? [build] : []), { ...why, title: 'why' }].map((command) => ({
      range,
      command,
    }));
  });
}

function titleOf(variants: readonly BlockState[]): string {
  const [first] = variants;
  if (variants.length === 1 && first !== undefined) return first.title;
  const fresh = variants.filter(({ isFresh }) => isFresh).length;
  return `${variants.length} variants, ${fresh === variants.length ? 'all' : fresh === 0 ? 'none' : fresh} fresh`;
}

/** What a target on the command line is called: with a sweep, all variants. */
export const writtenName = ({ name, variant }: CheckedBlock) => variant?.of ?? name;

/** What belongs to one block as it is written, by the first of it. */
function byHeader<Item>(items: readonly Item[], blockOf: (item: Item) => CheckedBlock): Map<Item, Item[]> {
  const groups = new Map<number, Item[]>();
  for (const item of items) {
    const { start } = blockOf(item).span;
    groups.set(start, [...(groups.get(start) ?? []), item]);
  }
  return new Map([...groups.values()].map((group) => [group[0] as Item, group]));
}

/** Where the block stands now: the states may be those of an earlier version. */
function headerRange({ reading }: OpenFile, block: CheckedBlock) {
  const statement = reading.program.statements.find(
    (one) =>
      one.kind === 'block' &&
      one.blockKind.text === block.kind &&
      (one.header.start === block.span.start ||
        (one.name && 'text' in one.name && one.name.text === writtenName(block))),
  );
  return statement?.kind === 'block' ? rangeOf(statement.header) : undefined;
}

export function hintsOf(file: OpenFile, blocks: readonly CheckedBlock[], states: States | undefined): InlayHint[] {
  const known = new Map(
    [...(states?.values() ?? [])].map((state) => [`${state.block.kind} ${state.block.name}`, state]),
  );
  const lastOf = (block: CheckedBlock | undefined) => block && known.get(`${block.kind} ${block.name}`)?.last;
  const datasets = new Map(blocks.filter(({ kind }) => kind === 'dataset').map((block) => [block.name, block]));
  const labelOf = (block: CheckedBlock) => {
    const data = block.kind === 'train' ? datasets.get(block.attributes.data.block) : undefined;
    return hintOn(block, { last: lastOf(block), data: lastOf(data) });
  };
  return [...byHeader(blocks, (block) => block)].flatMap(([first, variants]) => {
    const [label, ...others] = new Set(variants.map(labelOf));
    const range = headerRange(file, first);
    // Variants that come to different things have no one number.
    if (label === undefined || others.length > 0 || range === undefined) return [];
    return [{ position: range.end, label, paddingLeft: true }];
  });
}

type LastEntry = BlockState['last'];

function hintOn(
  block: CheckedBlock,
  { last, data }: { readonly last: LastEntry; readonly data: LastEntry },
): string | undefined {
  switch (block.kind) {
    case 'dataset': {
      const found = last && imageCount(last);
      if (found === undefined) return undefined;
      const repeated = found.perEpoch === found.images ? '' : `, ${found.perEpoch} per epoch`;
      return `${count(found.images, 'image')}${repeated}`;
    }
    case 'train': {
      const { batch_size, gradient_accumulation_steps } = block.attributes;
      const perStep = batch_size * gradient_accumulation_steps;
      const perEpoch = data && imageCount(data)?.perEpoch;
      const epochs = perEpoch === undefined ? '' : `, ${rounded(perEpoch / perStep)} steps per epoch`;
      return `${count(perStep, 'image')} per step${epochs}`;
    }
    case 'checkpoint':
      return undefined;
    default: {
      const bytes = Object.values(last?.outputs ?? {})[0]?.sizeBytes;
      return bytes === undefined ? undefined : `${size(bytes)} at the last build`;
    }
  }
}

const rounded = (number: number) => (number < 10 ? Number(number.toFixed(1)) : Math.round(number));
