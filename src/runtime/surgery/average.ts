// The exponential moving average of the LoRAs that a training saved, made when it is over.
//
// Parameters are averaged, as an average of weights does while a network trains: up with up, down with down. What the
// average does to a weight is therefore not the average of what each LoRA does to it, since up and down both move; for
// steps of one training, which are close to each other, the two differ in the second order. The average of the products
// would need a rank as many times higher as there are steps: that is a merge.

import { StageFailure } from '../events.ts';
import { type FloatDtype, fromNumbers, toFloat64 } from '../safetensors/convert.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../safetensors/writer.ts';
import { withHistory } from './weights-file.ts';

/** e₁ = x₁, eₖ = d·eₖ₋₁ + (1 − d)·xₖ: how much each of `count` files counts in the last of them. They add up to 1. */
export function averageWeights(count: number, decay: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => (index === 0 ? 1 : 1 - decay) * decay ** (count - 1 - index));
}

/** `files`: in the order of their steps, of one training. Numbers add up as doubles and are rounded once. */
export async function averageFiles(
  files: readonly SafetensorsFile[],
  options: {
    readonly decay: number;
    readonly output: string;
    readonly signal: AbortSignal;
    readonly onProgress: (done: number, total: number) => void;
  },
): Promise<void> {
  const { decay, output, signal, onProgress } = options;
  const last = files.at(-1);
  if (last === undefined) throw new Error('Internal error: an average of nothing.');
  const weights = averageWeights(files.length, decay);
  const tensors = [...last.header.tensors].map(([name, { dtype, shape }]): TensorToWrite => {
    const stranger = files.find((file) => {
      const other = file.header.tensors.get(name);
      return other?.dtype !== dtype || other.shape.join() !== shape.join();
    });
    const isFloat = dtype === 'F16' || dtype === 'BF16' || dtype === 'F32';
    if (stranger !== undefined || !isFloat) throw different(name);
    return { name, dtype, shape, source: { kind: 'made', make: () => averaged(files, { name, weights, dtype }) } };
  });
  const metadata = withHistory(last.header.metadata, { stage: 'ema', decay, steps: files.length });
  await writeSafetensors({ path: output, tensors, metadata, hashes: true, signal, onProgress });
}

async function averaged(
  files: readonly SafetensorsFile[],
  { name, weights, dtype }: { readonly name: string; readonly weights: readonly number[]; readonly dtype: FloatDtype },
): Promise<Uint8Array> {
  let sum: Float64Array | undefined;
  for (const [index, file] of files.entries()) {
    const values = toFloat64(await file.bytesOf(name), dtype);
    if (values === undefined) throw different(name);
    const weight = weights[index] ?? 0;
    sum ??= new Float64Array(values.length);
    for (let place = 0; place < values.length; place += 1)
      sum[place] = (sum[place] ?? 0) + weight * (values[place] ?? 0);
  }
  return fromNumbers(sum ?? new Float64Array(), dtype);
}

function different(name: string): StageFailure {
  return new StageFailure({
    kind: 'bad-input',
    message: `The tensor "${name}" is not of one type and shape in all steps of the training, so they have no average.`,
  });
}
