// Numbers on their way into a merged file: multiplied in doubles, rounded once, and refused when they are not finite.
/// <reference lib="esnext.float16" />

import type { FactorPair, Matrix, Product } from '../../adapters/product.ts';
import { StageFailure } from '../../events.ts';
import { bytesOf, type FloatDtype, fromNumbers, negate, toBf16, toFloat64 } from '../../safetensors/convert.ts';
import { type Dtype, elementsIn } from '../../safetensors/dtype.ts';
import type { LoraSource } from './input.ts';

/** A tensor of one of the inputs. */
export interface StoredTensor {
  readonly source: LoraSource;
  readonly name: string;
}

/** What factors of merged modules are stored in. */
export type Precision = 'fp16' | 'bf16' | 'fp32';

export const DTYPES: { readonly [precision in Precision]: FloatDtype } = { fp16: 'F16', bf16: 'BF16', fp32: 'F32' };

export function isFloat(dtype: Dtype): dtype is FloatDtype | 'F64' {
  return dtype === 'F16' || dtype === 'BF16' || dtype === 'F32' || dtype === 'F64';
}

/** The bytes of a tensor times `factor` in another type. What stays in its type and keeps its size keeps its bits. */
export async function multipliedBytes(
  tensor: StoredTensor,
  factor: number,
  dtype: FloatDtype | 'F64',
): Promise<Uint8Array<ArrayBuffer>> {
  const { source, name } = tensor;
  const bytes = await source.bytesOf(name);
  const own = source.tensor(name).dtype;
  if (own === dtype && Math.abs(factor) === 1) {
    if (!hasOnlyNumbers(bytes, own)) throw notFinite(tensor);
    if (factor < 0) negate(bytes, own);
    return bytes;
  }
  const numbers = finiteNumbers(tensor, bytes);
  return roundedBytes(numbers, factor, dtype, name);
}

/** Throws when a number is too large for the type. `name` says what they belong to. */
export function roundedBytes(
  numbers: Float64Array,
  factor: number,
  dtype: FloatDtype | 'F64',
  name: string,
): Uint8Array<ArrayBuffer> {
  const bytes = dtype === 'BF16' ? bytesOf(toBf16(times(numbers, factor))) : rounded(numbers, factor, dtype);
  if (!hasOnlyNumbers(bytes, dtype)) throw tooLarge(name, dtype);
  return bytes;
}

function rounded(numbers: Float64Array, factor: number, dtype: 'F16' | 'F32' | 'F64'): Uint8Array<ArrayBuffer> {
  if (dtype === 'F64') return fromNumbers(factor === 1 ? numbers : numbers.map((value) => value * factor), dtype);
  if (dtype === 'F32') return bytesOf(times(numbers, factor));
  const target = new Float16Array(numbers.length);
  for (let i = 0; i < numbers.length; i += 1) target[i] = (numbers[i] as number) * factor;
  return bytesOf(target);
}

function times(numbers: Float64Array, factor: number): Float32Array<ArrayBuffer> {
  const target = new Float32Array(numbers.length);
  for (let i = 0; i < numbers.length; i += 1) target[i] = (numbers[i] as number) * factor;
  return target;
}

/**
 * The exponent's bits are all set in what is infinite or no number: adding one to them then carries into the sign's place.
 * Two halves are looked at together, which matters for the hundred millions of them that a file has.
 */
function hasOnlyNumbers(bytes: Uint8Array<ArrayBuffer>, dtype: FloatDtype | 'F64'): boolean {
  if (dtype === 'F64') return new Float64Array(bytes.buffer).every(Number.isFinite);
  const { exponent, one, sign } = BITS[dtype];
  const words = new Uint32Array(bytes.buffer, 0, bytes.byteLength >> 2);
  let carried = 0;
  for (let i = 0; i < words.length; i += 1) carried |= (((words[i] as number) & exponent) + one) & sign;
  if (bytes.byteLength % 4 !== 0) {
    const [last = 0] = new Uint16Array(bytes.buffer, bytes.byteLength - 2);
    carried |= ((last & exponent) + one) & sign & 0xffff;
  }
  return carried === 0;
}

const BITS = {
  F16: { exponent: 0x7c007c00, one: 0x04000400, sign: 0x80008000 },
  BF16: { exponent: 0x7f807f80, one: 0x00800080, sign: 0x80008000 },
  F32: { exponent: 0x7f800000, one: 0x00800000, sign: 0x80000000 },
} as const;

/**
 * The factors with a power of two moved from the larger to the smaller, so that neither comes near the ends of fp16:
 * products of small numbers would lose their digits there. ΔW stays what it is.
 */
export function balanced({ up, down }: FactorPair, scale: number): FactorPair {
  const [high, low] = [largest(up) * Math.abs(scale), largest(down)];
  const exponent = high === 0 || low === 0 ? 0 : Math.round((Math.log2(low) - Math.log2(high)) / 2);
  return { kind: 'factors', up: scaled(up, scale * 2 ** exponent), down: scaled(down, 2 ** -exponent) };
}

function largest({ data }: Matrix): number {
  let most = 0;
  for (const value of data) most = Math.max(most, Math.abs(value));
  return most;
}

function scaled(matrix: Matrix, factor: number): Matrix {
  return factor === 1 ? matrix : { ...matrix, data: matrix.data.map((value) => value * factor) };
}

/** Matrices of equally many rows side by side, in bytes of one type. */
export function besideEachOther(
  parts: readonly Uint8Array<ArrayBuffer>[],
  rows: number,
  dtype: FloatDtype,
): Uint8Array<ArrayBuffer> {
  const cells = parts.map((part) => (dtype === 'F32' ? new Uint32Array(part.buffer) : new Uint16Array(part.buffer)));
  const columns = cells.map(({ length }) => length / rows);
  const width = columns.reduce((sum, count) => sum + count, 0);
  const target = dtype === 'F32' ? new Uint32Array(rows * width) : new Uint16Array(rows * width);
  let start = 0;
  for (const [index, part] of cells.entries()) {
    const count = columns[index] ?? 0;
    for (let row = 0, from = 0; row < rows; row += 1) {
      for (let to = row * width + start, end = to + count; to < end; to += 1, from += 1)
        target[to] = part[from] as number;
    }
    start += count;
  }
  return bytesOf(target);
}

/** Matrices of equally many columns one below the other. */
export function belowEachOther(parts: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const [only] = parts;
  if (only !== undefined && parts.length === 1) return only;
  const target = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    target.set(part, at);
    at += part.byteLength;
  }
  return target;
}

/** The sum of tensors of one shape, each times a factor of its own. */
export async function summedNumbers(
  terms: readonly (StoredTensor & { readonly factor: number })[],
): Promise<Float64Array> {
  const [first] = terms;
  if (first === undefined) throw new Error('Internal error: a sum has no terms.');
  const sum = new Float64Array(elementsIn(first.source.tensor(first.name).shape) ?? 0);
  for (const term of terms) {
    const numbers = finiteNumbers(term, await term.source.bytesOf(term.name));
    const { factor } = term;
    for (let i = 0; i < sum.length; i += 1) sum[i] = (sum[i] as number) + factor * (numbers[i] as number);
  }
  return sum;
}

function finiteNumbers(tensor: StoredTensor, bytes: Uint8Array): Float64Array {
  const { dtype } = tensor.source.tensor(tensor.name);
  const numbers = toFloat64(bytes, dtype);
  if (numbers === undefined) {
    throw new StageFailure({
      kind: 'bad-input',
      message: `The tensor "${tensor.name}" of "${tensor.source.label}" is stored as ${dtype} and cannot be multiplied.`,
    });
  }
  if (!numbers.every(Number.isFinite)) throw notFinite(tensor);
  return numbers;
}

/** Throws when a number of a module's tensors is not finite. */
export function requireFinite(product: Product, module: StoredTensor): void {
  for (const matrix of matricesOf(product)) if (!matrix.data.every(Number.isFinite)) throw notFinite(module);
}

function matricesOf(product: Product): readonly Matrix[] {
  if (product.kind === 'factors') return [product.up, product.down];
  return product.kind === 'whole' ? [product.whole] : [product.first, product.second].flatMap(matricesOf);
}

/** As files hold it. */
export function storedAlpha(alpha: number, name: string): number {
  const single = Math.fround(alpha);
  if (!Number.isFinite(single)) throw tooLarge(name, 'F32');
  return single;
}

function notFinite({ name, source }: StoredTensor): StageFailure {
  return new StageFailure({
    kind: 'non-finite',
    message: `"${name}" of "${source.label}" has values that are not finite numbers.`,
    hint: 'The training that made the LoRA went wrong; take a step saved earlier, or leave that block out with lorac chop.',
  });
}

function tooLarge(name: string, dtype: FloatDtype | 'F64'): StageFailure {
  const isHalf = dtype === 'F16';
  return new StageFailure({
    kind: 'bad-input',
    message: `"${name}" is too strong for the numbers of ${isHalf ? 'fp16' : 'single precision'}.`,
    hint: isHalf ? 'Choose the precision bf16 or fp32.' : 'Choose smaller weights.',
  });
}
