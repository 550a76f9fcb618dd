// How a file will look before a byte of it is written: which tensor lies where, and the header that says so.
// Tensors and metadata are sorted, so equal content has equal bytes.

import { byteLengthOf, type Dtype, rankOf } from './dtype.ts';

export interface TensorShape {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

export type Metadata = ReadonlyMap<string, string>;

export interface Layout<T extends TensorShape> {
  /** In the order of their bytes: wide types first, so that every tensor is aligned, then by name. */
  readonly tensors: readonly T[];
  /** The length field and the JSON, padded with spaces to a multiple of eight. */
  readonly header: Buffer;
  readonly dataBytes: number;
  readonly sizeBytes: number;
}

export function layOut<T extends TensorShape>(tensors: readonly T[], metadata: Metadata | undefined): Layout<T> {
  const sorted = [...tensors].sort((a, b) => rankOf(b.dtype) - rankOf(a.dtype) || compareUtf8(a.name, b.name));
  const parts: string[] = [];
  if (metadata !== undefined) parts.push(`"__metadata__":${metadataJson(metadata)}`);
  let offset = 0;
  for (const [index, tensor] of sorted.entries()) {
    if (tensor.name === '__metadata__') throw new Error('Internal error: a tensor cannot be named "__metadata__".');
    if (tensor.name === sorted[index - 1]?.name)
      throw new Error(`Internal error: two tensors named ${JSON.stringify(tensor.name)}.`);
    const end = offset + sizeOf(tensor);
    parts.push(
      `${JSON.stringify(tensor.name)}:{"dtype":"${tensor.dtype}","shape":[${tensor.shape}],"data_offsets":[${offset},${end}]}`,
    );
    offset = end;
  }
  const json = Buffer.from(`{${parts.join(',')}}`);
  const header = Buffer.alloc(8 + Math.ceil(json.byteLength / 8) * 8, 0x20);
  header.writeBigUInt64LE(BigInt(header.byteLength - 8), 0);
  json.copy(header, 8);
  return { tensors: sorted, header, dataBytes: offset, sizeBytes: header.byteLength + offset };
}

export function sizeOf(tensor: TensorShape): number {
  const length = byteLengthOf(tensor.dtype, tensor.shape);
  if (length === undefined) throw new Error(`Internal error: ${tensor.name} has no size.`);
  return length;
}

function metadataJson(metadata: Metadata): string {
  const pairs = [...metadata].sort(([a], [b]) => compareUtf8(a, b));
  return `{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`;
}

/** The order of the UTF-8 bytes, which differs from that of UTF-16 only beyond the surrogates. */
export function compareUtf8(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left !== right) return inUtf8Order(left) - inUtf8Order(right);
  }
  return a.length - b.length;
}

function inUtf8Order(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}
