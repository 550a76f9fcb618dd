// The decomposition of a LoRA, and the tensors of a module put together again from the directions that stay.
//
// For each module M the file has M.u [R, out], M.s [R] and M.vt [R, in·k²], F32, one row per direction, the strongest
// first, so only the rows that stay are read. σ is in units of ΔW. With s = α/rank of the original, which stays:
//   down = √(σ·rescale / s) · vt      up = √(σ·rescale / s) · u      alpha = s · (rows that stay)
/// <reference lib="esnext.float16" />

import { StageFailure } from '../events.ts';
import { bytesOf, fromNumbers, toBf16 } from '../safetensors/convert.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import type { TensorShape } from '../safetensors/layout.ts';
import type { TensorToWrite } from '../safetensors/writer.ts';
import type { Precision, Spectrum } from './resize-recipe.ts';

export interface FactorModule extends Spectrum {
  readonly out: number;
  /** Of one row of vt: in · k². */
  readonly width: number;
  /** Of the original, without its sign, which is in `u`. */
  readonly alpha: number;
  readonly upShape: readonly number[];
  readonly downShape: readonly number[];
}

/** Every decomposed module, sorted by name. */
export async function readFactors(file: SafetensorsFile): Promise<readonly FactorModule[]> {
  const described: unknown = JSON.parse(file.header.metadata?.get('lorac.modules') ?? 'null');
  if (typeof described !== 'object' || described === null) throw broken(file, 'lists no modules');
  const names = Object.keys(described).sort();
  return Promise.all(names.map((name) => readModule(file, name, (described as Record<string, unknown>)[name])));
}

async function readModule(file: SafetensorsFile, name: string, facts: unknown): Promise<FactorModule> {
  const { scale, up_shape: upShape, down_shape: downShape } = facts as Record<string, unknown>;
  const u = file.tensor(`${name}.u`);
  const vt = file.tensor(`${name}.vt`);
  const sigma = new Float32Array((await file.bytesOf(`${name}.s`)).buffer);
  const [, out = 0] = u.shape;
  const [, width = 0] = vt.shape;
  const fits = u.shape[0] === sigma.length && vt.shape[0] === sigma.length && u.dtype === 'F32' && vt.dtype === 'F32';
  if (!fits || typeof scale !== 'number' || !isShape(upShape) || !isShape(downShape)) {
    throw broken(file, `describes "${name}" wrongly`);
  }
  if (!sigma.every(Number.isFinite)) throw notFinite(`${name}.s`);
  // Rounded as files hold it, since a division and a multiplication may not give back what was.
  const alpha = Math.fround(scale * (downShape[0] ?? 0));
  return { name, sigma, parameters: out + width, out, width, alpha, upShape, downShape };
}

function isShape(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every(Number.isSafeInteger);
}

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

/** What a module is after resizing. `kept` are directions in ascending order. */
export function keptTensors(options: {
  readonly file: SafetensorsFile;
  readonly module: FactorModule;
  readonly kept: readonly number[];
  readonly rescale: number;
  readonly precision: Precision;
}): readonly TensorToWrite[] {
  const { file, module, kept, rescale, precision } = options;
  const shapes = shapesWith(module, kept.length, precision);
  const scale = module.alpha / kept.length;
  const strengths = Float64Array.from(kept, (index) => Math.sqrt(((module.sigma[index] ?? 0) * rescale) / scale));
  if (precision === 'fp16') for (const strength of strengths) if (strength > 65504) throw tooLarge(module.name);
  const make = async (factor: 'u' | 'vt'): Promise<Uint8Array> => {
    const name = `${module.name}.${factor}`;
    const width = factor === 'u' ? module.out : module.width;
    const rows = await readRows(file, name, kept);
    const target = emptyArray(precision, rows.length);
    const allFinite =
      factor === 'u' ? transposeInto(target, rows, strengths, width) : scaleInto(target, rows, strengths, width);
    if (!allFinite) throw notFinite(name);
    return target instanceof Float32Array && precision === 'bf16' ? bytesOf(toBf16(target)) : bytesOf(target);
  };
  return [
    {
      ...shapes.alpha,
      source: { kind: 'bytes', bytes: fromNumbers(Float64Array.of(module.alpha), 'F32') },
    },
    { ...shapes.down, source: { kind: 'made', make: () => make('vt') } },
    { ...shapes.up, source: { kind: 'made', make: () => make('u') } },
  ];
}

const DTYPES = { fp16: 'F16', bf16: 'BF16', fp32: 'F32' } as const;

type Target = Float16Array<ArrayBuffer> | Float32Array<ArrayBuffer>;

function emptyArray(precision: Precision, length: number): Target {
  return precision === 'fp16' ? new Float16Array(length) : new Float32Array(length);
}

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

/** Each row times its strength. Says whether all numbers were finite: a number times zero is zero, unless it is not. */
function scaleInto(target: Target, rows: Float32Array, strengths: Float64Array, width: number): boolean {
  let check = 0;
  for (let row = 0; row < strengths.length; row += 1) {
    const strength = strengths[row] ?? 0;
    for (let at = row * width, end = at + width; at < end; at += 1) {
      const value = (rows[at] ?? 0) * strength;
      check += value * 0;
      target[at] = value;
    }
  }
  return check === 0;
}

/** The same with rows becoming columns. In tiles, so that both sides stay in the processor's cache. */
function transposeInto(target: Target, rows: Float32Array, strengths: Float64Array, width: number): boolean {
  const rank = strengths.length;
  let check = 0;
  for (let tile = 0; tile < width; tile += TILE) {
    const end = Math.min(tile + TILE, width);
    for (let row = 0; row < rank; row += 1) {
      const strength = strengths[row] ?? 0;
      for (let column = tile; column < end; column += 1) {
        const value = (rows[row * width + column] ?? 0) * strength;
        check += value * 0;
        target[column * rank + row] = value;
      }
    }
  }
  return check === 0;
}

const TILE = 64;

function broken(file: SafetensorsFile, problem: string): Error {
  return new Error(`Internal error: the decomposition "${file.path}" ${problem}.`);
}

function notFinite(tensor: string): StageFailure {
  return new StageFailure({
    kind: 'non-finite',
    message: `The tensor "${tensor}" of the decomposition has values that are not finite numbers.`,
    hint: 'The training that made the LoRA went wrong; train again with a lower learning rate.',
  });
}

function tooLarge(module: string): StageFailure {
  return new StageFailure({
    kind: 'bad-input',
    message: `"${module}" is too strong for the numbers of fp16.`,
    hint: 'Write precision = bf16 or precision = fp32.',
  });
}
