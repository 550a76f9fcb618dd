// What a linter would warn of, in a few lines at the start of a build that trains. Nothing is read for it that the build
// has not read, and nothing is stopped by it: what is an error is told by the stage that meets it.

import type { CheckedProgram } from '../parser/model.ts';
import type { Store } from '../runtime/cache/store.ts';
import { StageFailure } from '../runtime/events.ts';
import type { NodeId } from '../runtime/graph/graph.ts';
import { lintBlock, looksIn } from './lint-dataset.ts';
import { lintSummary } from './lint-text.ts';

/** `stale`: the nodes that are about to run. Datasets of other trainings have been heard about. */
export async function adviceOn(
  program: CheckedProgram,
  stale: ReadonlySet<NodeId>,
  store: Store,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const trainings = program.blocks.filter((block) => block.kind === 'train' && stale.has(block.name as NodeId));
  const used = new Set(
    trainings.flatMap((block) => {
      if (block.kind !== 'train') return [];
      const { data, regularization } = block.attributes;
      return [data.block, ...(regularization ? [regularization.block] : [])];
    }),
  );
  const looks = looksIn(store);
  const lines: string[] = [];
  for (const block of program.blocks) {
    if (block.kind !== 'dataset' || !used.has(block.name)) continue;
    try {
      const report = await lintBlock(block, { program, store, looks, signal, say: () => {} });
      lines.push(...lintSummary(report, process.cwd()));
    } catch (error) {
      if (!(error instanceof StageFailure) && !signal.aborted) throw error;
    }
  }
  return lines;
}
