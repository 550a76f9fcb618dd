// The element types of a safetensors file and the bits each one takes.

/** Lowest first: the reference writer lays tensors out from the last of these to the first, so that all stay aligned. */
const BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type Dtype = keyof typeof BITS;

export const DTYPES = Object.keys(BITS) as readonly Dtype[];

const ranks = new Map(DTYPES.map((dtype, rank) => [dtype, rank]));

export function isDtype(word: string): word is Dtype {
  return ranks.has(word as Dtype);
}

/** The place in the reference writer's order, lowest first. */
export function rankOf(dtype: Dtype): number {
  return ranks.get(dtype) ?? 0;
}

export function bitsOf(dtype: Dtype): number {
  return BITS[dtype];
}

/** How many elements a shape holds; `undefined` beyond what a double counts exactly. A scalar's shape is empty and holds one. */
export function elementsIn(shape: readonly number[]): number | undefined {
  if (shape.includes(0)) return 0;
  let elements = 1;
  for (const dimension of shape) {
    elements *= dimension;
    if (elements > Number.MAX_SAFE_INTEGER) return undefined;
  }
  return elements;
}

/** Bytes of a dense tensor; `undefined` where the bits do not fill whole bytes or are too many to count. */
export function byteLengthOf(dtype: Dtype, shape: readonly number[]): number | undefined {
  const elements = elementsIn(shape);
  if (elements === undefined) return undefined;
  const bits = elements * bitsOf(dtype);
  return bits <= Number.MAX_SAFE_INTEGER && bits % 8 === 0 ? bits / 8 : undefined;
}
