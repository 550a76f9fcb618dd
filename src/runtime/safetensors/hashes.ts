// The hashes by which weights are known in the field, computed from the bytes that are really there.
// `sshs_model_hash` is SHA-256 of the data section, 64 digits; its first twelve are AutoV3.
// `sshs_legacy_hash` looks at 64 KiB from 1 MiB on, in the file as it would be with the `ss_*` metadata alone.

import { createHash } from 'node:crypto';
import { SafetensorsFile } from './file.ts';
import { layOut, type Metadata, type TensorShape } from './layout.ts';

const LEGACY_START = 2 ** 20;
const LEGACY_LENGTH = 2 ** 16;

/** Metadata that speaks of a file's bytes: never carried over to other bytes. */
export const HASH_KEYS: ReadonlySet<string> = new Set(['sshs_model_hash', 'sshs_legacy_hash', 'modelspec.hash_sha256']);

/** Fed with the data section in order. */
export class ModelHash {
  private readonly hash = createHash('sha256');

  update(bytes: Uint8Array): void {
    this.hash.update(bytes);
  }

  hex(): string {
    return this.hash.digest('hex');
  }
}

/** Fed with the data section in order, of which it keeps only what lies in its window. */
export class LegacyHash {
  private readonly hash = createHash('sha256');
  private at: number;

  constructor(tensors: readonly TensorShape[], metadata: Metadata | undefined) {
    const training = new Map([...(metadata ?? [])].filter(([key]) => key.startsWith('ss_')));
    const { header } = layOut(tensors, training);
    this.at = 0;
    this.update(header);
  }

  update(bytes: Uint8Array): void {
    const from = Math.max(LEGACY_START - this.at, 0);
    const to = Math.min(LEGACY_START + LEGACY_LENGTH - this.at, bytes.byteLength);
    if (from < to) this.hash.update(bytes.subarray(from, to));
    this.at += bytes.byteLength;
  }

  hex(): string {
    return this.hash.digest('hex').slice(0, 8);
  }
}

const CHUNK_BYTES = 4 * 2 ** 20;

export interface FileHashes {
  /** SHA-256 of the whole file; its first ten digits are AutoV2. */
  readonly file: string;
  /** What `sshs_model_hash` should be. */
  readonly model: string;
  readonly legacy: string;
  readonly autoV3: string;
}

export interface HashOptions {
  readonly signal?: AbortSignal;
  /** Gets all bytes of the file in pieces of a multiple of 4, but for the last, to look for something else in the same pass. */
  readonly onBytes?: (bytes: Uint8Array<ArrayBuffer>, position: number) => void;
}

/** All hashes of a file as it lies there, in one pass. The next piece is read while one is hashed. */
export async function hashesOf(path: string, options: HashOptions = {}): Promise<FileHashes> {
  await using file = await SafetensorsFile.open(path);
  const { dataStart, tensors, metadata } = file.header;
  const whole = createHash('sha256');
  const model = new ModelHash();
  const legacy = new LegacyHash([...tensors.values()], metadata);
  let [filling, full] = [new Uint8Array(CHUNK_BYTES), new Uint8Array(CHUNK_BYTES)];
  const read = async (position: number): Promise<Uint8Array<ArrayBuffer>> => {
    const part = filling.subarray(0, Math.min(CHUNK_BYTES, file.sizeBytes - position));
    await file.readInto(part, position);
    return part;
  };
  let reading = read(0);
  for (let position = 0; position < file.sizeBytes; position += CHUNK_BYTES) {
    options.signal?.throwIfAborted();
    const part = await reading;
    [filling, full] = [full, filling];
    if (position + CHUNK_BYTES < file.sizeBytes) {
      reading = read(position + CHUNK_BYTES);
      // Awaited in the next turn; this only keeps a failure from counting as unhandled until then.
      reading.catch(() => {});
    }
    whole.update(part);
    const data = part.subarray(Math.max(0, dataStart - position));
    model.update(data);
    legacy.update(data);
    options.onBytes?.(part, position);
  }
  const hex = model.hex();
  return { file: whole.digest('hex'), model: hex, legacy: legacy.hex(), autoV3: hex.slice(0, 12) };
}
