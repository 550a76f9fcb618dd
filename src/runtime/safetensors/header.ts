// What a safetensors header says, judged as a whole before any tensor is read.
// Stricter than the reference reader: what two readers could understand differently is refused, and the reason is told.
//
// Rules: the first byte is `{`; nothing but blanks follows the object; no key twice; every entry has exactly
// dtype, shape and data_offsets; a tensor's bytes are what its dtype and shape say; tensors lie side by side
// without gap or overlap from the start of the data to the end of the file.

import { byteLengthOf, type Dtype, isDtype } from './dtype.ts';
import { type Damage, SafetensorsError } from './error.ts';
import { type HeaderJson, HeaderJsonError, parseHeaderJson } from './header-json.ts';

export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Bytes from the start of the data section; `end` is exclusive. */
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  /** `undefined` when the file has none, which differs from an empty one. */
  readonly metadata: ReadonlyMap<string, string> | undefined;
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Where in the file the data section begins. */
  readonly dataStart: number;
  /** What is odd and harmless. */
  readonly warnings: readonly string[];
}

/** What a file may ask of us at most. */
export interface Limits {
  readonly headerBytes: number;
  readonly tensors: number;
  readonly dimensions: number;
  readonly nameBytes: number;
}

/** The reference reader refuses longer headers too. */
export const CHECKPOINT_LIMITS: Limits = {
  headerBytes: 100_000_000,
  tensors: 1_000_000,
  dimensions: 16,
  nameBytes: 4096,
};
export const LORA_LIMITS: Limits = { headerBytes: 16 * 2 ** 20, tensors: 200_000, dimensions: 8, nameBytes: 512 };

/** How many bytes the header's JSON takes, from the first eight bytes of the file. */
export function readHeaderLength(options: {
  readonly path: string;
  readonly prefix: Uint8Array;
  readonly fileSize: number;
  readonly limits: Limits;
}): number {
  const { path, prefix, fileSize, limits } = options;
  if (fileSize < 8 || prefix.byteLength < 8) {
    throw new SafetensorsError(path, fileSize === 0 ? 'it is empty.' : `it has only ${fileSize} bytes.`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length === 0n) throw new SafetensorsError(path, 'its header is empty.');
  if (length > BigInt(limits.headerBytes)) {
    throw new SafetensorsError(
      path,
      `its header claims ${length} bytes, and at most ${limits.headerBytes} are accepted.`,
    );
  }
  if (8n + length > BigInt(fileSize)) {
    throw new SafetensorsError(
      path,
      `its header claims ${length} bytes, and the file has ${fileSize}: it is cut off or not such a file.`,
      'cut-off',
    );
  }
  return Number(length);
}

/** Parses and judges the header. `bytes` are the header's JSON alone. */
export function parseHeader(options: {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly fileSize: number;
  readonly limits: Limits;
}): Header {
  const { path, bytes, fileSize, limits } = options;
  const dataStart = 8 + bytes.byteLength;
  try {
    const text = decode(bytes);
    const { value, end } = parseHeaderJson(text);
    const warnings = trailing(text.slice(end));
    if (!isMap(value)) throw new Refusal('its header is not a JSON object.');
    const metadata = metadataOf(value.get('__metadata__'));
    const tensors = tensorsOf(value, limits);
    checkTiling(tensors, fileSize - dataStart);
    return { metadata, tensors: new Map(tensors.map((info) => [info.name, info])), dataStart, warnings };
  } catch (error) {
    if (error instanceof Refusal) throw new SafetensorsError(path, error.message, error.damage);
    if (error instanceof HeaderJsonError) throw new SafetensorsError(path, `${error.message}.`);
    throw error;
  }
}

/** A reason that still lacks the file's name. */
class Refusal extends Error {
  readonly damage: Damage;
  constructor(reason: string, damage: Damage = 'malformed') {
    super(reason);
    this.damage = damage;
  }
}

function decode(bytes: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new Refusal('its header is not valid UTF-8.');
  }
  if (text[0] !== '{') throw new Refusal('its header does not begin with "{".');
  return text;
}

function trailing(rest: string): readonly string[] {
  if (/^ *$/.test(rest)) return [];
  if (/^[ \t\r\n]*$/.test(rest)) return ['The header is padded with line breaks or tabs instead of spaces.'];
  throw new Refusal('something other than spaces follows its header.');
}

function metadataOf(value: HeaderJson | undefined): ReadonlyMap<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isMap(value)) throw new Refusal('its "__metadata__" is not an object.');
  for (const [key, entry] of value) {
    if (typeof entry !== 'string') throw new Refusal(`the metadata value of ${quoted(key)} is not a string.`);
  }
  return value as ReadonlyMap<string, string>;
}

function tensorsOf(root: ReadonlyMap<string, HeaderJson>, limits: Limits): TensorInfo[] {
  const count = root.size - (root.has('__metadata__') ? 1 : 0);
  if (count > limits.tensors) throw new Refusal(`it has ${count} tensors, and at most ${limits.tensors} are accepted.`);
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of root) {
    if (name === '__metadata__') continue;
    if (Buffer.byteLength(name) > limits.nameBytes) {
      throw new Refusal(`the tensor name ${quoted(name)} is longer than ${limits.nameBytes} bytes.`);
    }
    tensors.push(tensorOf(name, entry, limits));
  }
  return tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
}

function tensorOf(name: string, entry: HeaderJson, limits: Limits): TensorInfo {
  const bad = (problem: string): never => {
    throw new Refusal(`tensor ${quoted(name)} ${problem}.`);
  };
  if (!isMap(entry)) return bad('is not described by an object');
  for (const field of entry.keys()) {
    if (field !== 'dtype' && field !== 'shape' && field !== 'data_offsets')
      bad(`has the unknown field ${quoted(field)}`);
  }
  const dtype = entry.get('dtype');
  if (typeof dtype !== 'string') return bad('has no dtype');
  if (!isDtype(dtype)) return bad(`has the unknown dtype ${quoted(dtype)}`);
  const shape = integers(entry.get('shape'));
  if (shape === undefined) return bad('has no shape of unsigned integers');
  if (shape.length > limits.dimensions)
    bad(`has ${shape.length} dimensions, and at most ${limits.dimensions} are accepted`);
  const offsets = integers(entry.get('data_offsets'));
  if (offsets?.length !== 2) return bad('has no data_offsets of two unsigned integers');
  const [begin = 0, end = 0] = offsets;
  if (end < begin) bad(`ends (${end}) before it begins (${begin})`);
  const length = byteLengthOf(dtype, shape);
  if (length === undefined) return bad(`of ${dtype} [${shape}] does not fill whole bytes that can be counted`);
  if (length !== end - begin)
    bad(`of ${dtype} [${shape}] needs ${length} bytes, and its offsets give it ${end - begin}`);
  return { name, dtype, shape, begin, end };
}

/** Sorted by offset, tensors that touch each other and both ends leave no room for a gap or an overlap. */
function checkTiling(tensors: readonly TensorInfo[], dataBytes: number): void {
  let expected = 0;
  for (const { name, begin, end } of tensors) {
    if (begin > expected)
      throw new Refusal(`${begin - expected} bytes before tensor ${quoted(name)} belong to no tensor.`);
    if (begin < expected) throw new Refusal(`tensor ${quoted(name)} overlaps the one before it.`);
    expected = end;
  }
  if (expected > dataBytes) {
    throw new Refusal(
      `it is cut off: its tensors need ${expected} bytes of data, and ${dataBytes} are there.`,
      'cut-off',
    );
  }
  if (expected < dataBytes)
    throw new Refusal(`${dataBytes - expected} bytes after its last tensor belong to no tensor.`);
}

function integers(value: HeaderJson | undefined): readonly number[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === 'number') ? value : undefined;
}

function isMap(value: HeaderJson): value is ReadonlyMap<string, HeaderJson> {
  return value instanceof Map;
}

/** Names come from the file: escaped, and never longer than a line. */
function quoted(text: string): string {
  return JSON.stringify(text.length <= 120 ? text : `${text.slice(0, 117)}…`);
}
