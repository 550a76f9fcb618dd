// ‖W‖ of the base weights that a LoRA adapts, by block: what ‖ΔW‖ is held against.

import { toFloat64 } from '../safetensors/convert.ts';
import type { Dtype } from '../safetensors/dtype.ts';
import type { BaseWeights } from './base-weights.ts';
import type { ModuleFacts } from './module-facts.ts';
import type { NormOptions } from './norms.ts';

/** Modules that the base has no weight for count nothing. */
export async function measureBase(
  base: BaseWeights,
  modules: readonly ModuleFacts[],
  { signal, onProgress }: NormOptions,
): Promise<ReadonlyMap<string, number>> {
  const squares = new Map<string, number>();
  for (const [done, { key, place }] of modules.entries()) {
    signal.throwIfAborted();
    onProgress?.(done, modules.length);
    const weight = await base.read(key);
    if (weight === undefined) continue;
    squares.set(place, (squares.get(place) ?? 0) + squareOf(weight.bytes, weight.dtype));
  }
  return new Map([...squares].map(([place, square]) => [place, Math.sqrt(square)]));
}

/** Half-precision weights have 65,536 values at most: their squares are looked up, four times as fast as converted. */
const squaresByDtype = new Map<string, Float64Array>();

function squareOf(bytes: Uint8Array<ArrayBuffer>, dtype: Dtype): number {
  if (dtype === 'F16' || dtype === 'BF16') {
    const table = squaresByDtype.get(dtype) ?? squareTable(dtype);
    squaresByDtype.set(dtype, table);
    return sumOfSquares(new Uint16Array(bytes.buffer), table);
  }
  let sum = 0;
  for (const value of toFloat64(bytes, dtype) ?? []) sum += value * value;
  return sum;
}

/** In four sums, which do not wait for each other. */
function sumOfSquares(bits: Uint16Array, squares: Float64Array): number {
  let [a, b, c, d] = [0, 0, 0, 0];
  const whole = bits.length - (bits.length % 4);
  for (let i = 0; i < whole; i += 4) {
    a += squares[bits[i] as number] as number;
    b += squares[bits[i + 1] as number] as number;
    c += squares[bits[i + 2] as number] as number;
    d += squares[bits[i + 3] as number] as number;
  }
  for (let i = whole; i < bits.length; i += 1) a += squares[bits[i] as number] as number;
  return a + b + c + d;
}

function squareTable(dtype: 'F16' | 'BF16'): Float64Array {
  const every = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
  const values = toFloat64(new Uint8Array(every.buffer), dtype) ?? new Float64Array();
  return values.map((value) => value * value);
}
