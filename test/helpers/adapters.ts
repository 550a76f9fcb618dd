// Files of one adapter, and what it does worked out from the numbers that the file has, in doubles.

import { toFloat64 } from '../../src/runtime/safetensors/convert.ts';
import { SafetensorsFile } from '../../src/runtime/safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/runtime/safetensors/writer.ts';
import { type Float, randomNumbers, tensor } from '../runtime/stages/lora-files.ts';
import { type Adapter, ALPHA, type At, IN, OUT, RANK } from './adapter-forms.ts';

export { type Adapter, ALPHA, adapters, IN, OUT, RANK } from './adapter-forms.ts';

/** `DoRA by output rows`. */
export function titleOf({ family, form }: Adapter): string {
  return form === undefined ? family : `${family} ${form}`;
}

export const MODULE = 'lora_unet_middle_block_1_toy';

/** What is one number in a file, and is not random. */
const SCALARS: { readonly [suffix: string]: (example: Adapter) => number } = {
  alpha: () => ALPHA,
  scalar: () => ALPHA,
  scale: () => ALPHA,
  dyn_dim: () => RANK,
  on_input: ({ form }) => (form === 'on inputs' ? 1 : 0),
};

export function adapterTensors(example: Adapter, dtype: Float = 'F32', seed = 7): readonly TensorToWrite[] {
  const random = randomNumbers(seed);
  return Object.entries(example.shapes).map(([suffix, shape]) => {
    const length = shape.reduce((size, side) => size * side, 1);
    const numbers = Array.from({ length }, () => SCALARS[suffix]?.(example) ?? random());
    return tensor(`${example.module ?? MODULE}.${suffix}`, dtype, shape, numbers);
  });
}

/** A file with that one module, and the norm that its ΔW has by definition. */
export async function writeAdapter(path: string, example: Adapter): Promise<number> {
  await writeSafetensors({ path, tensors: adapterTensors(example), metadata: undefined, hashes: false });
  return Math.sqrt((await deltaOf(path, example)).reduce((square, value) => square + value ** 2, 0));
}

/** The weight that a module adapts, where that counts: out × in × kernel × kernel, the same in every run. */
export function baseWeight({ kernel = 1 }: Adapter): readonly number[] {
  const random = randomNumbers(11);
  return Array.from({ length: OUT * IN * kernel ** 2 }, () => Math.fround(random()));
}

/** Every number of ΔW as its definition has it, from the tensors of the file, in doubles. Empty without a formula. */
export async function deltaOf(path: string, example: Adapter): Promise<readonly number[]> {
  const at = await numbersOf(path, example);
  const { delta, kernel = 1 } = example;
  if (delta === undefined) return [];
  return places(kernel).map(([o, i, y, x]) => delta(at, o, i, [y, x]));
}

/** The same of the bias. */
export async function biasOf(path: string, example: Adapter): Promise<readonly number[]> {
  const at = await numbersOf(path, example);
  return Array.from({ length: OUT }, (_, o) => example.bias?.(at, o) ?? 0);
}

function places(kernel: number): (readonly [number, number, number, number])[] {
  const axes = [OUT, IN, kernel, kernel];
  const empty: number[][] = [[]];
  return axes.reduce(
    (all, size) => all.flatMap((place) => Array.from({ length: size }, (_, index) => [...place, index])),
    empty,
  ) as unknown as (readonly [number, number, number, number])[];
}

async function numbersOf(path: string, adapter: Adapter): Promise<At> {
  const { module = MODULE, kernel = 1 } = adapter;
  await using file = await SafetensorsFile.open(path);
  const values = new Map<string, { readonly shape: readonly number[]; readonly numbers: ArrayLike<number> }>();
  values.set('base', { shape: [OUT, IN, kernel, kernel], numbers: baseWeight(adapter) });
  for (const { name, shape, dtype } of file.header.tensors.values()) {
    const numbers = toFloat64(await file.bytesOf(name), dtype) ?? [];
    values.set(name.slice(module.length + 1), { shape, numbers });
  }
  return (suffix, ...place) => {
    const { shape = [], numbers = [] } = values.get(suffix) ?? {};
    return numbers[place.reduce((index, step, axis) => index * (shape[axis] ?? 1) + step, 0)] ?? Number.NaN;
  };
}
