// ‖W‖ of the base weights that a LoRA adapts, by block: what ‖ΔW‖ is held against.

import { toFloat64 } from '../safetensors/convert.ts';
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
    const bytes = new Uint8Array(info.end - info.begin);
    await base.readInto(bytes, base.positionOf(info));
    const [rows = 1] = info.shape;
    const [from, to] = target.ldmRows ?? [0, rows];
    const rowBytes = bytes.byteLength / rows;
    squares.set(
      place,
      (squares.get(place) ?? 0) + squareOf(bytes.subarray(from * rowBytes, to * rowBytes), info.dtype),
    );
  }
  return new Map([...squares].map(([place, square]) => [place, Math.sqrt(square)]));
}

/** Half-precision weights have 65,536 values at most: their squares are looked up, four times as fast as converted. */
const squaresByDtype = new Map<string, Float64Array>();

function squareOf(bytes: Uint8Array<ArrayBuffer>, dtype: Parameters<typeof toFloat64>[1]): number {
  let sum = 0;
  if (dtype === 'F16' || dtype === 'BF16') {
    const table = squaresByDtype.get(dtype) ?? squareTable(dtype);
    squaresByDtype.set(dtype, table);
    for (let i = 0; i < bytes.length; i += 2)
      sum += table[(bytes[i] as number) | ((bytes[i + 1] as number) << 8)] as number;
    return sum;
  }
  for (const value of toFloat64(bytes, dtype) ?? []) sum += value * value;
  return sum;
}

function squareTable(dtype: 'F16' | 'BF16'): Float64Array {
  const every = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
  const values = toFloat64(new Uint8Array(every.buffer), dtype) ?? new Float64Array();
  return values.map((value) => value * value);
}
