// The tensors of a module, put together again from the directions that stay.
//
// With alpha of the original, which stays, and s = alpha / (directions that stay):
//   down = √(σ·rescale / s) · vt      up = √(σ·rescale / s) · u
// The format of diffusers has no alpha, so for it s is 1: nothing has to be multiplied, and rounded, once more.
//
// Every number is read back after it was rounded, so that what is written can be checked while it is in memory.
/// <reference lib="esnext.float16" />

import { StageFailure } from '../../events.ts';
import { bytesOf, fromNumbers, toBf16 } from '../../safetensors/convert.ts';
import type { SafetensorsFile } from '../../safetensors/file.ts';
import type { TensorShape } from '../../safetensors/layout.ts';
import type { TensorToWrite } from '../../safetensors/writer.ts';
import type { Rounded, Verification } from './check.ts';
import { type FactorModule, notFinite } from './factors.ts';
import type { Precision, Recipe } from './recipe.ts';

/** The shapes that a module has with so many directions. */
export function shapesWith(
  module: FactorModule,
  rank: number,
  precision: Precision,
): Record<'up' | 'down' | 'alpha', TensorShape> {
  const dtype = DTYPES[precision];
  const { name, upShape, downShape } = module;
  return {
    up: { name: `${name}.lora_up.weight`, dtype, shape: [module.out, rank, ...upShape.slice(2)] },
    down: { name: `${name}.lora_down.weight`, dtype, shape: [rank, ...downShape.slice(1)] },
    alpha: { name: `${name}.alpha`, dtype: 'F32', shape: [] },
  };
}

export function alphaWith(module: FactorModule, rank: number, { format }: Recipe): number {
  return format === 'diffusers' ? rank : module.alpha;
}

/** What a module is after resizing. `kept` are directions in ascending order. */
export function keptTensors(options: {
  readonly file: SafetensorsFile;
  readonly module: FactorModule;
  readonly kept: readonly number[];
  readonly recipe: Recipe;
  readonly verification: Verification;
}): readonly TensorToWrite[] {
  const { file, module, kept, recipe, verification } = options;
  const { rescale, precision } = recipe;
  const shapes = shapesWith(module, kept.length, precision);
  const alpha = alphaWith(module, kept.length, recipe);
  const scale = alpha / kept.length;
  const strengths = Float64Array.from(kept, (index) => Math.sqrt(((module.sigma[index] ?? 0) * rescale) / scale));
  if (precision === 'fp16') for (const strength of strengths) if (strength > 65504) throw tooLarge(module.name);
  const check = verification.of({ module, kept, strengths, scale });
  const make = async (factor: 'u' | 'vt'): Promise<Uint8Array> => {
    const name = `${module.name}.${factor}`;
    const width = factor === 'u' ? module.out : module.width;
    const rows = await readRows(file, name, kept);
    const { bytes, rounded } = round({ rows, strengths, width, precision, isTransposed: factor === 'u' });
    // A number that is not finite makes the sum of squares of its row such a one.
    if (!rounded.squares.every(Number.isFinite)) throw notFinite(name);
    check(factor, rounded);
    return bytes;
  };
  return [
    {
      ...shapes.alpha,
      source: { kind: 'bytes', bytes: fromNumbers(Float64Array.of(alpha), 'F32') },
    },
    { ...shapes.down, source: { kind: 'made', make: () => make('vt') } },
    { ...shapes.up, source: { kind: 'made', make: () => make('u') } },
  ];
}

const DTYPES = { fp16: 'F16', bf16: 'BF16', fp32: 'F32' } as const;

type Target = Float16Array<ArrayBuffer> | Float32Array<ArrayBuffer>;

/** Some rows of a matrix. Neighbours are read in one go. */
async function readRows(file: SafetensorsFile, name: string, indices: readonly number[]): Promise<Float32Array> {
  const info = file.tensor(name);
  const rowBytes = (info.end - info.begin) / (info.shape[0] ?? 1);
  const rows = new Uint8Array(indices.length * rowBytes);
  const start = file.positionOf(info);
  for (let at = 0; at < indices.length; ) {
    const first = indices[at] ?? 0;
    let count = 1;
    while (indices[at + count] === first + count) count += 1;
    await file.readInto(rows.subarray(at * rowBytes, (at + count) * rowBytes), start + first * rowBytes);
    at += count;
  }
  return new Float32Array(rows.buffer);
}

/** Each row times its strength, in the numbers of the file; transposed, rows become columns. */
function round(options: {
  readonly rows: Float32Array;
  readonly strengths: Float64Array;
  readonly width: number;
  readonly precision: Precision;
  readonly isTransposed: boolean;
}): { readonly bytes: Uint8Array; readonly rounded: Rounded } {
  const { rows, strengths, width, precision, isTransposed } = options;
  const target = precision === 'fp16' ? new Float16Array(rows.length) : new Float32Array(rows.length);
  const rounded = isTransposed
    ? transposeInto(target, rows, strengths, width)
    : scaleInto(target, rows, strengths, width);
  if (precision !== 'bf16' || target instanceof Float16Array) return { bytes: bytesOf(target), rounded };
  const halves = toBf16(target);
  return { bytes: bytesOf(halves), rounded: compareBf16(target, halves, strengths.length, isTransposed) };
}

function scaleInto(target: Target, rows: Float32Array, strengths: Float64Array, width: number): Rounded {
  const { squares, changes } = noSums(strengths.length);
  for (let row = 0; row < strengths.length; row += 1) {
    const strength = strengths[row] ?? 0;
    let square = 0;
    let change = 0;
    for (let at = row * width, end = at + width; at < end; at += 1) {
      const value = (rows[at] ?? 0) * strength;
      target[at] = value;
      const held = target[at] ?? 0;
      square += held * held;
      change += (held - value) * (held - value);
    }
    squares[row] = square;
    changes[row] = change;
  }
  return { squares, changes };
}

/** In tiles, so that both sides stay in the processor's cache. */
function transposeInto(target: Target, rows: Float32Array, strengths: Float64Array, width: number): Rounded {
  const rank = strengths.length;
  const { squares, changes } = noSums(rank);
  for (let tile = 0; tile < width; tile += TILE) {
    const end = Math.min(tile + TILE, width);
    for (let row = 0; row < rank; row += 1) {
      const strength = strengths[row] ?? 0;
      let square = 0;
      let change = 0;
      for (let column = tile; column < end; column += 1) {
        const value = (rows[row * width + column] ?? 0) * strength;
        const at = column * rank + row;
        target[at] = value;
        const held = target[at] ?? 0;
        square += held * held;
        change += (held - value) * (held - value);
      }
      squares[row] = (squares[row] ?? 0) + square;
      changes[row] = (changes[row] ?? 0) + change;
    }
  }
  return { squares, changes };
}

const TILE = 64;

/** What became of singles when they lost their lower half. */
function compareBf16(singles: Float32Array, halves: Uint16Array, rank: number, isTransposed: boolean): Rounded {
  const { squares, changes } = noSums(rank);
  const bits = new Uint32Array(1);
  const single = new Float32Array(bits.buffer);
  const width = singles.length / rank;
  for (let at = 0; at < singles.length; at += 1) {
    bits[0] = (halves[at] ?? 0) << 16;
    const held = single[0] ?? 0;
    const change = held - (singles[at] ?? 0);
    const row = isTransposed ? at % rank : Math.floor(at / width);
    squares[row] = (squares[row] ?? 0) + held * held;
    changes[row] = (changes[row] ?? 0) + change * change;
  }
  return { squares, changes };
}

function noSums(rank: number): Rounded {
  return { squares: new Float64Array(rank), changes: new Float64Array(rank) };
}

function tooLarge(module: string): StageFailure {
  return new StageFailure({
    kind: 'bad-input',
    message: `"${module}" is too strong for the numbers of fp16.`,
    hint: 'Write precision = bf16 or precision = fp32.',
  });
}
