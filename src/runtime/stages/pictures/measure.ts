// How far stored pictures are from each other, as the worker measures it.

import { readFile } from 'node:fs/promises';
import type { Digest } from '../../cache/digest.ts';
import { pathIn } from '../../graph/paths.ts';
import type { StageContext } from '../../stage.ts';
import { askWorker } from '../ask-worker.ts';

export interface PicturePair {
  readonly name: string;
  readonly first: Digest;
  readonly second: Digest;
}

/**
 * The distance of each pair by its name: the root mean square of the differences of all sRGB values, over 255.
 * Equal pictures are 0 apart, black and white 1. Only pictures that differ are sent to the worker.
 */
export async function measurePictures(
  context: StageContext,
  pairs: readonly PicturePair[],
): Promise<ReadonlyMap<string, number>> {
  const equal = pairs.filter(({ first, second }) => first === second);
  const others = pairs.filter(({ first, second }) => first !== second);
  const distances = new Map(equal.map(({ name }) => [name, 0]));
  if (others.length === 0) return distances;
  const output = pathIn(context.work, 'distances.json');
  const sent = others.map(({ name, first, second }) => {
    return { name, first: context.store.blobPath(first), second: context.store.blobPath(second) };
  });
  await askWorker(context, { op: 'measure', pairs: sent, output }, (progress) =>
    context.report(progress.type === 'progress' ? { ...progress, unit: 'comparisons' } : progress),
  );
  const measured = JSON.parse(await readFile(output, 'utf8')) as { readonly [name: string]: unknown };
  for (const { name } of others) {
    const distance = measured[name];
    if (typeof distance !== 'number' || !(distance >= 0 && distance <= 1)) {
      throw new Error(`Internal error: the worker gave ${JSON.stringify(distance)} for the distance "${name}".`);
    }
    distances.set(name, distance);
  }
  return distances;
}
