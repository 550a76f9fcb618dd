// Has a labelled grid drawn of stored pictures, into the stage's work folder.

import type { AbsolutePath } from '../../graph/graph.ts';
import { pathIn } from '../../graph/paths.ts';
import type { StageContext } from '../../stage.ts';
import type { Grid } from '../../worker/protocol.ts';
import { type Answered, askWorker } from '../ask-worker.ts';

export async function drawGrid(
  context: StageContext,
  content: Omit<Grid, 'op' | 'output'>,
): Promise<{ readonly grid: AbsolutePath; readonly record: Answered['record'] }> {
  const grid = pathIn(context.work, 'grid.png');
  const { record } = await askWorker(context, { op: 'grid', ...content, output: grid }, (progress) =>
    // Pictures that are laid out are not pictures that are rendered, which were counted before.
    context.report(progress.type === 'progress' ? { ...progress, unit: 'cells of the grid' } : progress),
  );
  return { grid, record };
}
