// Between the bytes of a tensor and numbers. Rounding is to the nearest, ties to even, as everywhere in the field.
/// <reference lib="esnext.float16" />

import type { Dtype } from './dtype.ts';

/** What factors are written as. */
export type FloatDtype = 'F16' | 'BF16' | 'F32';

/** The numbers of a floating or integer tensor, exactly where a double can hold them; `undefined` for the packed and 8-bit float types. */
export function toFloat64(bytes: Uint8Array, dtype: Dtype): Float64Array | undefined {
  const copy = aligned(bytes);
  switch (dtype) {
    case 'F16':
      return Float64Array.from(new Float16Array(copy));
    case 'BF16':
      return Float64Array.from(fromBf16(new Uint16Array(copy)));
    case 'F32':
      return Float64Array.from(new Float32Array(copy));
    case 'F64':
      return new Float64Array(copy);
    case 'U8':
    case 'BOOL':
      return Float64Array.from(new Uint8Array(copy));
    case 'I8':
      return Float64Array.from(new Int8Array(copy));
    case 'I16':
      return Float64Array.from(new Int16Array(copy));
    case 'U16':
      return Float64Array.from(new Uint16Array(copy));
    case 'I32':
      return Float64Array.from(new Int32Array(copy));
    case 'U32':
      return Float64Array.from(new Uint32Array(copy));
    case 'I64':
      return Float64Array.from(new BigInt64Array(copy), Number);
    case 'U64':
      return Float64Array.from(new BigUint64Array(copy), Number);
    default:
      return undefined;
  }
}

/** Like `toFloat64`, without the detour for what fits 32 bits. */
export function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array<ArrayBuffer> | undefined {
  switch (dtype) {
    case 'F16':
      return Float32Array.from(new Float16Array(aligned(bytes)));
    case 'BF16':
      return fromBf16(new Uint16Array(aligned(bytes)));
    case 'F32':
      return new Float32Array(aligned(bytes));
    default: {
      const numbers = toFloat64(bytes, dtype);
      return numbers === undefined ? undefined : Float32Array.from(numbers);
    }
  }
}

/** The bytes of numbers in a floating type. */
export function fromNumbers(numbers: Float32Array | Float64Array, dtype: FloatDtype | 'F64'): Uint8Array<ArrayBuffer> {
  switch (dtype) {
    case 'F16':
      return bytesOf(new Float16Array(numbers));
    case 'BF16':
      return bytesOf(toBf16(Float32Array.from(numbers)));
    case 'F32':
      return bytesOf(Float32Array.from(numbers));
    case 'F64':
      return bytesOf(Float64Array.from(numbers));
  }
}

/** Flips the sign of every element in place: exact in any of these types, since each has a sign bit of its own. */
export function negate(bytes: Uint8Array, dtype: Dtype): boolean {
  const width = { F16: 2, BF16: 2, F32: 4, F64: 8 }[dtype as string];
  if (width === undefined) return false;
  for (let last = width - 1; last < bytes.byteLength; last += width) bytes[last] = (bytes[last] ?? 0) ^ 0x80;
  return true;
}

/** The upper half of each single, rounded. A NaN stays one. */
export function toBf16(numbers: Float32Array<ArrayBuffer>): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  const halves = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i += 1) {
    const value = bits[i] ?? 0;
    const notANumber = (value & 0x7fffffff) > 0x7f800000;
    halves[i] = notANumber ? (value >>> 16) | 0x40 : (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
  }
  return halves;
}

function fromBf16(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i += 1) bits[i] = (halves[i] ?? 0) << 16;
  return new Float32Array(bits.buffer);
}

/** A view of the same bytes. */
export function bytesOf(array: ArrayBufferView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** A buffer that typed arrays of any width can look at: tensors inside a file need not be aligned. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  return bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength && bytes.buffer instanceof ArrayBuffer
    ? bytes.buffer
    : new Uint8Array(bytes).buffer;
}
