// Tensors that are going to be written, with their bytes: what tests compare, and small LoRAs to begin with.

import { createHash } from 'node:crypto';
import { toFloat64 } from '../../src/runtime/safetensors/convert.ts';
import type { TensorToWrite } from '../../src/runtime/safetensors/writer.ts';
import { type Float, randomNumbers, tensor } from '../runtime/stages/lora-files.ts';

/** Everything about a tensor that a file says, by its name. */
export type TensorTable = ReadonlyMap<string, string>;

export async function tableOf(tensors: readonly TensorToWrite[]): Promise<TensorTable> {
  const table = new Map<string, string>();
  for (const each of tensors) {
    if (table.has(each.name)) throw new Error(`${each.name} is there twice`);
    const digest = createHash('sha256')
      .update(await bytesOf(each))
      .digest('hex');
    table.set(each.name, `${each.dtype} [${each.shape}] ${digest}`);
  }
  return new Map([...table].sort());
}

export async function bytesOf({ source }: TensorToWrite): Promise<Uint8Array> {
  if (source.kind === 'bytes') return source.bytes;
  return source.kind === 'copy' ? source.file.bytesOf(source.tensor) : source.make();
}

export async function numbersOf(tensors: readonly TensorToWrite[], name: string): Promise<readonly number[]> {
  const found = tensors.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no tensor ${name}`);
  return [...(toFloat64(await bytesOf(found), found.dtype) ?? [])];
}

export interface Factors {
  readonly out?: number;
  readonly in?: number;
  readonly rank?: number;
  /** Sides of the kernel; none: a linear layer. */
  readonly kernel?: number;
  readonly dtype?: Float;
  readonly seed?: number;
}

/** `down` and `up` under the given names, of numbers between -1 and 1. */
export function factors(down: string, up: string, written: Factors = {}): readonly TensorToWrite[] {
  const { out = 3, in: width = 2, rank = 2, kernel, dtype = 'F16', seed = 1 } = written;
  const random = randomNumbers(seed);
  const make = (name: string, shape: readonly number[]): TensorToWrite =>
    tensor(
      name,
      dtype,
      shape,
      Array.from({ length: shape.reduce((size, side) => size * side, 1) }, () => random()),
    );
  const sides = kernel === undefined ? [] : [kernel, kernel];
  return [make(down, [rank, width, ...sides]), make(up, [out, rank, ...sides.map(() => 1)])];
}

/** scale · up · down, flattened to out × in·k². */
export function product(
  up: readonly number[],
  down: readonly number[],
  rank: number,
  scale: number,
): readonly number[] {
  const [out, columns] = [up.length / rank, down.length / rank];
  return Array.from({ length: out * columns }, (_, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    let sum = 0;
    for (let r = 0; r < rank; r += 1) sum += (up[row * rank + r] ?? 0) * (down[r * columns + column] ?? 0);
    return scale * sum;
  });
}
