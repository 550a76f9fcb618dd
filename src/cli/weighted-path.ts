// A file and its weight, as command lines write them: hero.safetensors:0.5

import { existsSync } from 'node:fs';
import { noSuchFile } from './no-such-file.ts';
import { UsageError } from './usage-error.ts';

export interface WeightedPath {
  readonly path: string;
  readonly weight: number;
}

/** A colon may belong to a path (C:\loras\hero.safetensors), so a file of the whole name goes first. Throws `UsageError`. */
export function readWeightedPath(text: string): WeightedPath {
  if (existsSync(text)) return { path: text, weight: 1 };
  const colon = text.lastIndexOf(':');
  const [path, written] = [text.slice(0, colon), text.slice(colon + 1)];
  // What stands behind the last colon is a weight, unless it goes on as a path does.
  if (colon < 1 || /[\\/]/.test(written)) throw noSuchFile(text);
  const weight = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(written) ? Number(written) : Number.NaN;
  if (!Number.isFinite(weight)) {
    throw new UsageError(`"${written}" in "${text}" is no weight.`, 'a weight is a number, as in hero.safetensors:0.5');
  }
  if (weight === 0) throw new UsageError(`The weight of "${path}" is 0, which adds nothing.`, 'leave the file out');
  if (!existsSync(path)) throw noSuchFile(path);
  return { path, weight };
}
