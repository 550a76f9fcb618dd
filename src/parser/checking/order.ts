// Blocks in the order in which they can be made, and those that are made from each other, and so from nothing.

import type { CheckedBlock, Reference } from '../model.ts';

/** One step of a circle: the place where a block names the next. */
export interface CircleStep {
  readonly from: string;
  readonly to: string;
  readonly span: Reference['span'];
}

export interface BlockOrder {
  /** Every block after those that it is made from, circles aside; else in the order they are written. */
  readonly ordered: readonly CheckedBlock[];
  /** One for each circle, from its first block in the file. */
  readonly circles: readonly (readonly CircleStep[])[];
}

/** `references`: what a block is made from, where that is more than its own attributes say. */
export function orderBlocks(
  blocks: readonly CheckedBlock[],
  references: (block: CheckedBlock) => readonly Reference[] = referencesOf,
): BlockOrder {
  // Blocks that save have a path in place of a name, and nothing refers to them.
  const byName = new Map(blocks.filter((block) => block.kind !== 'save').map((block) => [block.name, block]));
  const finished = new Set<CheckedBlock>();
  const circles = blocks.flatMap((start) => walk(start, { byName, finished, references }));
  return { ordered: [...finished], circles };
}

/** A block on the way down, the references that are still to be followed, and the one that is being followed. */
interface Visit {
  readonly block: CheckedBlock;
  readonly ahead: Reference[];
  following: Reference | undefined;
}

/** Depth first, with a stack of its own: a chain of blocks may be longer than JavaScript's. Gives the circles it meets. */
function walk(
  start: CheckedBlock,
  {
    byName,
    finished,
    references,
  }: {
    readonly byName: ReadonlyMap<string, CheckedBlock>;
    readonly finished: Set<CheckedBlock>;
    references(block: CheckedBlock): readonly Reference[];
  },
): (readonly CircleStep[])[] {
  const circles: (readonly CircleStep[])[] = [];
  const visitOf = (block: CheckedBlock): Visit => ({ block, ahead: [...references(block)], following: undefined });
  const path = finished.has(start) ? [] : [visitOf(start)];
  const onPath = new Set([start]);
  for (let visit = path.at(-1); visit !== undefined; visit = path.at(-1)) {
    visit.following = visit.ahead.shift();
    const next = visit.following && byName.get(visit.following.block);
    if (visit.following === undefined) {
      finished.add(visit.block);
      onPath.delete(visit.block);
      path.pop();
    } else if (next !== undefined && onPath.has(next)) {
      circles.push(stepsOf(path.slice(path.findIndex(({ block }) => block === next))));
    } else if (next !== undefined && !finished.has(next)) {
      onPath.add(next);
      path.push(visitOf(next));
    }
  }
  return circles;
}

function stepsOf(circle: readonly Visit[]): readonly CircleStep[] {
  return circle.flatMap(({ block, following }) =>
    following === undefined ? [] : [{ from: block.name, to: following.block, span: following.span }],
  );
}

/** Of all blocks those that some are made from, and these themselves, in the order of all. */
export function madeFrom(all: readonly CheckedBlock[], some: readonly CheckedBlock[]): readonly CheckedBlock[] {
  const byName = new Map(all.filter((block) => block.kind !== 'save').map((block) => [block.name, block]));
  const wanted = new Set(some);
  // Grows while it is walked.
  for (const block of wanted) {
    for (const reference of referencesOf(block)) {
      const other = byName.get(reference.block);
      if (other !== undefined) wanted.add(other);
    }
  }
  return all.filter((block) => wanted.has(block));
}

const known = new WeakMap<CheckedBlock, readonly Reference[]>();

/** The blocks that a block is made from, as it names them. Remembered: everyone who walks the blocks asks for them. */
export function referencesOf(block: CheckedBlock): readonly Reference[] {
  const remembered = known.get(block);
  if (remembered !== undefined) return remembered;
  const found: Reference[] = [];
  const look = (value: unknown): void => {
    if (isReference(value)) found.push(value);
    else if (Array.isArray(value)) value.filter(isReference).forEach(look);
  };
  for (const value of Object.values<unknown>(block.attributes)) {
    if (isPlain(value)) Object.values(value).forEach(look);
    else look(value);
  }
  known.set(block, found);
  return found;
}

/** Settings in braces, which may name blocks as well. */
function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isReference(value);
}

/** The LoRAs of a list that takes all variants of what it names: the columns of a preview. */
export function gatheredOf(block: CheckedBlock): readonly Reference[] {
  return block.kind === 'preview' ? block.attributes.loras : [];
}

/** The block with other references. Those of a list may become several, and all others become one. */
export function replaceReferences(
  block: CheckedBlock,
  replace: (reference: Reference) => readonly Reference[],
): CheckedBlock {
  const replaced = (value: unknown): unknown => {
    if (isReference(value)) return replace(value)[0];
    if (Array.isArray(value)) return value.some(isReference) ? value.flatMap(replace) : value;
    if (!isPlain(value) || !Object.values(value).some(isReference)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, replaced(inner)]));
  };
  const attributes = Object.entries<unknown>(block.attributes).map(([name, value]) => [name, replaced(value)]);
  // Of the types that they had: only names of blocks are others.
  return { ...block, attributes: Object.fromEntries(attributes) } as unknown as CheckedBlock;
}

export function isReference(value: unknown): value is Reference {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'reference';
}
