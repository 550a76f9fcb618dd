// Merging alone in a folder: LoRAs in, one LoRA out, and what was said.

import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import type { TensorToWrite } from '../../../src/runtime/safetensors/writer.ts';
import { merge } from '../../../src/runtime/stages/merge.ts';
import type { Matrix } from '../../helpers/linear-algebra.ts';
import type { openFolder } from '../safetensors/files.ts';
import { runAlone } from './lab.ts';
import { type TinyModule, writeLora } from './lora-files.ts';

export type Folder = Awaited<ReturnType<typeof openFolder>>;

export async function merged(
  folder: Folder,
  inputs: readonly (readonly [path: string, weight: number])[],
  precision: 'fp16' | 'bf16' | 'fp32' = 'fp16',
) {
  const { outputs, said } = await runAlone({
    stage: merge,
    attributes: { weights: inputs.map(([, weight]) => weight), precision },
    inputs: Object.fromEntries(inputs.map(([path], index) => [`lora.${index}`, path])),
    work: folder.path('.'),
  });
  return { path: outputs.lora ?? '', said };
}

/** The weight is larger than all ranks together, unless a test says otherwise. */
export const wide = { out: 24, in: 20 } as const;

export const file = (
  folder: Folder,
  name: string,
  modules: readonly TinyModule[],
  extra: readonly TensorToWrite[] = [],
) =>
  writeLora(
    folder.path(name),
    modules.map((module) => ({ ...wide, ...module })),
    { extra },
  );

/** The sum of matrices, in doubles. */
export function combined(terms: readonly (readonly [Matrix | undefined, number])[]): Matrix {
  const [[first] = []] = terms;
  if (first === undefined) throw new Error('nothing to add up');
  const data = first.data.map((_, i) =>
    terms.reduce((sum, [delta, weight]) => sum + weight * (delta?.data[i] ?? Number.NaN), 0),
  );
  return { ...first, data };
}

/** Of an F16 or F32 tensor. */
export async function numbers(path: string, name: string): Promise<readonly number[]> {
  await using opened = await SafetensorsFile.open(path);
  const { dtype } = opened.tensor(name);
  const bytes = await opened.bytesOf(name);
  return [...(dtype === 'F32' ? new Float32Array(bytes.buffer) : new Float16Array(bytes.buffer))];
}
