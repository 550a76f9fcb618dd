// Blocks that are made from each other, and so from nothing.

import * as problem from './diagnostics.ts';
import type { CheckedBlock, Reference } from './model.ts';
import type { Scope } from './scope.ts';

/** One complaint for each circle, at the reference of its first block in the file. */
export function reportCycles(scope: Scope, blocks: readonly CheckedBlock[]): void {
  const byName = new Map(blocks.filter((block) => block.kind !== 'save').map((block) => [block.name, block]));
  const finished = new Set<string>();
  for (const start of byName.values()) {
    const path: { from: string; to: string; span: Reference['span'] }[] = [];
    const visit = (block: CheckedBlock): void => {
      if (finished.has(block.name)) return;
      const circle = path.findIndex((step) => step.from === block.name);
      if (circle >= 0) {
        scope.report(problem.cycle(path.slice(circle)));
        return;
      }
      for (const reference of referencesOf(block)) {
        const next = byName.get(reference.block);
        if (next === undefined) continue;
        path.push({ from: block.name, to: reference.block, span: reference.span });
        visit(next);
        path.pop();
      }
      finished.add(block.name);
    };
    visit(start);
  }
}

/** The blocks that a block is made from, as it names them. */
export function referencesOf(block: CheckedBlock): Reference[] {
  return Object.values<unknown>(block.attributes).filter(isReference);
}

function isReference(value: unknown): value is Reference {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'reference';
}
