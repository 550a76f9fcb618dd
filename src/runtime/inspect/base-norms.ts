// ‖W‖ of the base weights that a LoRA adapts, by block: what ‖ΔW‖ is held against.

import { toFloat64 } from '../safetensors/convert.ts';
import type { Dtype } from '../safetensors/dtype.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { readArchitecture, te1Root } from '../sdxl/architecture.ts';
import { loraTargets } from '../sdxl/modules.ts';
import type { ModuleFacts } from './module-facts.ts';
import type { NormOptions } from './norms.ts';

/** Throws `NotSdxl` for a base that is none. Modules that the base has no weight for count nothing. */
export async function measureBase(
  base: SafetensorsFile,
  modules: readonly ModuleFacts[],
  { signal, onProgress }: NormOptions,
): Promise<ReadonlyMap<string, number>> {
  const { tensors, metadata } = base.header;
  const targets = new Map(loraTargets(readArchitecture(tensors, metadata)).map((target) => [target.name, target]));
  const root = te1Root(tensors);
  const squares = new Map<string, number>();
  for (const [done, { key, place }] of modules.entries()) {
    signal.throwIfAborted();
    onProgress?.(done, modules.length);
    const target = targets.get(key);
    if (target === undefined) continue;
    const info = tensors.get(target.ldmKey.replace(/^conditioner\.embedders\.0\.transformer\.text_model\./, root));
    if (info === undefined) continue;
    const [rows = 1] = info.shape;
    const [from, to] = target.ldmRows ?? [0, rows];
    const rowBytes = (info.end - info.begin) / rows;
    const bytes = new Uint8Array((to - from) * rowBytes);
    await base.readInto(bytes, base.positionOf(info) + from * rowBytes);
    squares.set(place, (squares.get(place) ?? 0) + squareOf(bytes, info.dtype));
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
