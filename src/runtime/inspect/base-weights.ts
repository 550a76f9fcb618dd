// The weights of a base checkpoint that modules of a LoRA adapt, found by kohya's names and read when they are asked for.

import { toFloat64 } from '../safetensors/convert.ts';
import type { Dtype } from '../safetensors/dtype.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { readArchitecture, te1Root } from '../sdxl/architecture.ts';
import { loraTargets } from '../sdxl/modules.ts';

export interface BaseWeights {
  /** The bytes of the rows that a module adapts; `undefined` where the base has no weight for it. */
  read(key: string): Promise<StoredWeight | undefined>;
}

export interface StoredWeight {
  readonly dtype: Dtype;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of the rows that were read: out, in, and the kernel of a convolution. */
  readonly shape: readonly number[];
}

/** Throws `NotSdxl` for a base that is none. */
export function openBase(base: SafetensorsFile): BaseWeights {
  const { tensors, metadata } = base.header;
  const targets = new Map(loraTargets(readArchitecture(tensors, metadata)).map((target) => [target.name, target]));
  const root = te1Root(tensors);
  return {
    async read(key) {
      const target = targets.get(key);
      if (target === undefined) return undefined;
      const info = tensors.get(target.ldmKey.replace(/^conditioner\.embedders\.0\.transformer\.text_model\./, root));
      if (info === undefined) return undefined;
      const [rows = 1, ...rest] = info.shape;
      const [from, to] = target.ldmRows ?? [0, rows];
      const rowBytes = (info.end - info.begin) / rows;
      const bytes = new Uint8Array((to - from) * rowBytes);
      await base.readInto(bytes, base.positionOf(info) + from * rowBytes);
      return { dtype: info.dtype, bytes, shape: [to - from, ...rest] };
    },
  };
}

/** W as a matrix, out × in·k², with how many of its columns belong to one input. */
export interface BaseMatrix {
  readonly out: number;
  readonly columns: number;
  /** Places of the kernel: 1 for linear weights. */
  readonly area: number;
  readonly data: Float64Array;
}

/** `undefined` for numbers of a kind that cannot be read. */
export function asMatrix({ dtype, bytes, shape }: StoredWeight): BaseMatrix | undefined {
  const data = toFloat64(bytes, dtype);
  const [out = 1, inputs = 1, ...kernel] = shape;
  const area = kernel.reduce((product, side) => product * side, 1);
  return data && { out, columns: inputs * area, area, data };
}
