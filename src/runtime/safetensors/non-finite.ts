// NaN and infinity among the numbers of a file, found while its bytes pass by for another purpose.
// Such a number has an exponent of ones alone: adding one to the exponent then carries into the sign's place, for two
// halves of a word at once. That costs a tenth of what hashing the same bytes does.

import { toFloat64 } from './convert.ts';
import type { Dtype } from './dtype.ts';
import type { SafetensorsFile } from './file.ts';

interface Pattern {
  readonly exponent: number;
  readonly one: number;
  readonly sign: number;
}

const PATTERNS: ReadonlyMap<Dtype, Pattern> = new Map([
  ['F16', { exponent: 0x7c007c00, one: 0x04000400, sign: 0x80008000 }],
  ['BF16', { exponent: 0x7f807f80, one: 0x00800080, sign: 0x80008000 }],
  ['F32', { exponent: 0x7f800000, one: 0x00800000, sign: 0x80000000 }],
]);

type TensorInfo = ReturnType<SafetensorsFile['tensor']>;

/** Tensors of one type that lie behind each other. Places are those in the file. */
interface Run {
  readonly pattern: Pattern;
  readonly begin: number;
  end: number;
  readonly tensors: TensorInfo[];
}

export class NonFiniteScan {
  readonly #file: SafetensorsFile;
  readonly #runs: Run[] = [];
  /** What is not looked at in words: other types, and files whose data begins at an odd place. */
  readonly #others: TensorInfo[] = [];
  readonly #found = new Set<string>();

  constructor(file: SafetensorsFile) {
    this.#file = file;
    const infos = [...file.header.tensors.values()].sort((a, b) => a.begin - b.begin);
    for (const info of infos) this.#add(info);
  }

  #add(info: TensorInfo): void {
    const pattern = PATTERNS.get(info.dtype);
    const begin = this.#file.positionOf(info);
    const end = begin + info.end - info.begin;
    const last = this.#runs.at(-1);
    if (pattern !== undefined && last?.pattern === pattern && last.end === begin) {
      last.end = end;
      last.tensors.push(info);
    } else if (pattern !== undefined && begin % 4 === 0) this.#runs.push({ pattern, begin, end, tensors: [info] });
    else if (/^B?F\d+$/.test(info.dtype)) this.#others.push(info);
  }

  /** Bytes of the file from `position` on, which is a multiple of 4, as is their number unless the file ends with them. */
  update(bytes: Uint8Array<ArrayBuffer>, position: number): void {
    for (const run of this.#runs) {
      const from = Math.max(run.begin, position);
      const to = Math.min(run.end, position + bytes.length);
      if (from >= to) continue;
      const part = bytes.subarray(from - position, to - position);
      if (hasSuspect(part, run.pattern)) this.#look(run, part, from);
    }
  }

  #look({ tensors }: Run, part: Uint8Array<ArrayBuffer>, position: number): void {
    for (const info of tensors) {
      const begin = this.#file.positionOf(info);
      const end = begin + info.end - info.begin;
      const [from, to] = [Math.max(begin, position) - position, Math.min(end, position + part.length) - position];
      if (from < to && hasNonFinite(part.slice(from, to), info.dtype)) this.#found.add(info.name);
    }
  }

  /** Names of tensors with such numbers, sorted. To be asked when all bytes have passed. */
  async names(): Promise<readonly string[]> {
    for (const info of this.#others)
      if (hasNonFinite(await this.#file.bytesOf(info.name), info.dtype)) this.#found.add(info.name);
    return [...this.#found].sort();
  }
}

function hasSuspect(bytes: Uint8Array<ArrayBuffer>, { exponent, one, sign }: Pattern): boolean {
  const count = bytes.length >> 2;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, count);
  let carried = 0;
  const whole = count - (count % 4);
  for (let i = 0; i < whole; i += 4) {
    carried |= ((words[i] as number) & exponent) + one;
    carried |= ((words[i + 1] as number) & exponent) + one;
    carried |= ((words[i + 2] as number) & exponent) + one;
    carried |= ((words[i + 3] as number) & exponent) + one;
  }
  for (let i = whole; i < count; i += 1) carried |= ((words[i] as number) & exponent) + one;
  // An odd number of halves leaves one behind.
  const rest = bytes.length - 4 * count;
  if (rest === 2) carried |= ((((bytes.at(-1) ?? 0) << 8) | (bytes.at(-2) ?? 0)) & exponent & 0xffff) + (one & 0xffff);
  return (carried & sign) !== 0;
}

function hasNonFinite(bytes: Uint8Array<ArrayBuffer>, dtype: Dtype): boolean {
  return toFloat64(bytes, dtype)?.some((value) => !Number.isFinite(value)) ?? false;
}
