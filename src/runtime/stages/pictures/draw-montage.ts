// Has the montage and the film of a training's pictures drawn, into the stage's work folder.

import type { AbsolutePath } from '../../graph/graph.ts';
import { pathIn } from '../../graph/paths.ts';
import type { StageContext } from '../../stage.ts';
import type { Montage } from '../../worker/protocol.ts';
import { type Answered, askWorker } from '../ask-worker.ts';

export interface DrawnMontage {
  readonly montage: AbsolutePath;
  readonly animation: AbsolutePath;
  readonly record: Answered['record'];
}

/** `labels`: what stands beside each row. */
export async function drawMontage(
  context: StageContext,
  labels: readonly string[],
  pictures: Montage['pictures'],
): Promise<DrawnMontage> {
  const montage = pathIn(context.work, 'montage.png');
  const animation = pathIn(context.work, 'animation.webp');
  const work = { op: 'montage', labels, pictures, output: montage, animation } as const;
  const { record } = await askWorker(context, work, (progress) =>
    // Pictures that are laid out are not pictures that are rendered, which were counted before.
    context.report(progress.type === 'progress' ? { ...progress, unit: 'pictures of the montage' } : progress),
  );
  return { montage, animation, record };
}
