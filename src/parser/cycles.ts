// Blocks that are made from each other, and so from nothing.

import * as problem from './diagnostics.ts';
import type { CheckedBlock, Reference } from './model.ts';
import type { Scope } from './scope.ts';

/** One complaint for each circle, at the reference of its first block in the file. */
export function reportCycles(scope: Scope, blocks: readonly CheckedBlock[]): void {
  const byName = new Map(blocks.filter((block) => block.kind !== 'save').map((block) => [block.name, block]));
  const finished = new Set<string>();
  for (const start of byName.values()) walk(scope, start, byName, finished);
}

/** A block on the way down, the references that are still to be followed, and the one that is being followed. */
interface Visit {
  readonly block: CheckedBlock;
  readonly ahead: Reference[];
  following: Reference | undefined;
}

/** Depth first, with a stack of its own: a chain of blocks may be longer than JavaScript's. */
function walk(
  scope: Scope,
  start: CheckedBlock,
  byName: ReadonlyMap<string, CheckedBlock>,
  finished: Set<string>,
): void {
  const visitOf = (block: CheckedBlock): Visit => ({ block, ahead: referencesOf(block), following: undefined });
  const path = finished.has(start.name) ? [] : [visitOf(start)];
  const onPath = new Set([start.name]);
  for (let visit = path.at(-1); visit !== undefined; visit = path.at(-1)) {
    visit.following = visit.ahead.shift();
    const next = visit.following && byName.get(visit.following.block);
    if (visit.following === undefined) {
      finished.add(visit.block.name);
      onPath.delete(visit.block.name);
      path.pop();
    } else if (next !== undefined && onPath.has(next.name)) {
      scope.report(problem.cycle(stepsOf(path.slice(path.findIndex(({ block }) => block === next)))));
    } else if (next !== undefined && !finished.has(next.name)) {
      onPath.add(next.name);
      path.push(visitOf(next));
    }
  }
}

function stepsOf(circle: readonly Visit[]) {
  return circle.flatMap(({ block, following }) =>
    following === undefined ? [] : [{ from: block.name, to: following.block, span: following.span }],
  );
}

/** The blocks that a block is made from, as it names them. */
export function referencesOf(block: CheckedBlock): Reference[] {
  return Object.values<unknown>(block.attributes).filter(isReference);
}

function isReference(value: unknown): value is Reference {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'reference';
}
