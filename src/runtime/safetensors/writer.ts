// Weights files written so that equal content has equal bytes, and so that memory does not grow with the file.
// Bytes of other files are copied by range. The file appears under its name when it is whole and on the disk.

import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { SafetensorsFile } from './file.ts';
import { HASH_KEYS, LegacyHash, ModelHash } from './hashes.ts';
import { type Layout, layOut, type Metadata, sizeOf, type TensorShape } from './layout.ts';

export interface TensorToWrite extends TensorShape {
  readonly source: TensorSource;
}

export type TensorSource =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** The same bytes as a tensor of another file has. */
  | { readonly kind: 'copy'; readonly file: SafetensorsFile; readonly tensor: string }
  /** Called in the order of the file, some megabytes ahead of the writing. */
  | { readonly kind: 'made'; readonly make: () => Promise<Uint8Array> };

export interface WriteOptions {
  readonly path: string;
  readonly tensors: readonly TensorToWrite[];
  readonly metadata: Metadata | undefined;
  /** Puts `sshs_model_hash` and `sshs_legacy_hash` of the bytes written into the metadata. Inherited ones never survive. */
  readonly hashes: boolean;
  readonly signal?: AbortSignal;
  /** Hears of written bytes, now and then. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

const CHUNK = 4 * 2 ** 20;
const READ_AHEAD = 16 * 2 ** 20;

/** Writes the file and gives its size. Whatever goes wrong, nothing half-written bears the final name. */
export async function writeSafetensors(options: WriteOptions): Promise<number> {
  const metadata = withoutHashes(options.metadata);
  const layout = layOut(options.tensors, options.hashes ? withHashes(metadata, undefined) : metadata);
  const temporary = `${options.path}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  const handle = await open(temporary, 'wx');
  try {
    try {
      const hashes = { model: new ModelHash(), legacy: new LegacyHash(options.tensors, metadata) };
      const sink = new Sink(handle, layout.header.byteLength, (bytes) => {
        options.signal?.throwIfAborted();
        hashes.model.update(bytes);
        hashes.legacy.update(bytes);
        options.onProgress?.(sink.done, layout.dataBytes);
      });
      await writeData(sink, layout);
      await sink.end();
      const header = options.hashes ? layOut(options.tensors, withHashes(metadata, hashes)).header : layout.header;
      await writeAll(handle, header, 0);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, options.path);
    await syncFolder(dirname(options.path));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return layout.sizeBytes;
}

/** The exact size of the file that `writeSafetensors` would write with hashes. */
export function sizeWithHashes(tensors: readonly TensorShape[], metadata: Metadata | undefined): number {
  return layOut(tensors, withHashes(withoutHashes(metadata), undefined)).sizeBytes;
}

async function writeData(sink: Sink, layout: Layout<TensorToWrite>): Promise<void> {
  const ahead = new ReadAhead(layout.tensors);
  let index = 0;
  for (const piece of piecesOf(layout.tensors)) {
    if (piece.kind === 'range') {
      await sink.copy(piece.file, piece.position, piece.length);
      index += piece.tensors;
      continue;
    }
    const { tensor, source } = piece;
    const bytes = source.kind === 'bytes' ? source.bytes : await ahead.take(index);
    if (bytes.byteLength !== sizeOf(tensor)) {
      throw new Error(`Internal error: ${tensor.name} has ${bytes.byteLength} bytes instead of ${sizeOf(tensor)}.`);
    }
    await sink.write(bytes);
    index += 1;
  }
}

type Piece =
  | {
      readonly kind: 'tensor';
      readonly tensor: TensorToWrite;
      readonly source: Exclude<TensorSource, { readonly kind: 'copy' }>;
    }
  | {
      readonly kind: 'range';
      readonly file: SafetensorsFile;
      readonly position: number;
      readonly length: number;
      readonly tensors: number;
    };

/** Copied tensors that are neighbours in both files become one range: a file that keeps its order is copied in large strokes. */
function piecesOf(tensors: readonly TensorToWrite[]): readonly Piece[] {
  const pieces: Piece[] = [];
  for (const tensor of tensors) {
    const { source } = tensor;
    if (source.kind !== 'copy') {
      pieces.push({ kind: 'tensor', tensor, source });
      continue;
    }
    const info = source.file.tensor(source.tensor);
    const position = source.file.positionOf(info);
    const length = info.end - info.begin;
    const last = pieces.at(-1);
    if (last?.kind === 'range' && last.file === source.file && last.position + last.length === position) {
      pieces[pieces.length - 1] = { ...last, length: last.length + length, tensors: last.tensors + 1 };
    } else {
      pieces.push({ kind: 'range', file: source.file, position, length, tensors: 1 });
    }
  }
  return pieces;
}

/** Starts the making of tensors before their turn, so that reading goes on while bytes are hashed and written. */
class ReadAhead {
  private readonly tensors: readonly TensorToWrite[];
  private readonly pending = new Map<number, Promise<Uint8Array>>();
  private next = 0;
  private pendingBytes = 0;

  constructor(tensors: readonly TensorToWrite[]) {
    this.tensors = tensors;
  }

  async take(index: number): Promise<Uint8Array> {
    this.next = Math.max(this.next, index);
    while (this.next < this.tensors.length && (this.next === index || this.pendingBytes < READ_AHEAD)) this.start();
    const made = this.pending.get(index);
    if (made === undefined) throw new Error('Internal error: a tensor was taken out of turn.');
    const bytes = await made;
    this.pending.delete(index);
    this.pendingBytes -= bytes.byteLength;
    return bytes;
  }

  private start(): void {
    const index = this.next;
    this.next += 1;
    const tensor = this.tensors[index];
    if (tensor?.source.kind !== 'made') return;
    const made = tensor.source.make();
    made.catch(() => {}); // Whoever takes it hears of the failure; until then it is not an unhandled one.
    this.pending.set(index, made);
    this.pendingBytes += sizeOf(tensor);
  }
}

/** Gathers bytes into large chunks. One chunk is on its way to the disk while the next is filled. */
class Sink {
  done = 0;
  private readonly handle: FileHandle;
  private readonly onBytes: (bytes: Uint8Array) => void;
  private readonly start: number;
  private written = 0;
  private chunk = Buffer.allocUnsafe(CHUNK);
  private spare = Buffer.allocUnsafe(CHUNK);
  private filled = 0;
  private writing: Promise<void> = Promise.resolve();

  constructor(handle: FileHandle, start: number, onBytes: (bytes: Uint8Array) => void) {
    this.handle = handle;
    this.start = start;
    this.onBytes = onBytes;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; ) {
      const part = bytes.subarray(at, at + CHUNK - this.filled);
      this.chunk.set(part, this.filled);
      at += part.byteLength;
      await this.advance(part.byteLength);
    }
  }

  async copy(file: SafetensorsFile, position: number, length: number): Promise<void> {
    for (let at = 0; at < length; ) {
      const count = Math.min(length - at, CHUNK - this.filled);
      await file.readInto(this.chunk.subarray(this.filled, this.filled + count), position + at);
      at += count;
      await this.advance(count);
    }
  }

  async end(): Promise<void> {
    await this.flush();
    await this.writing;
  }

  private async advance(count: number): Promise<void> {
    this.filled += count;
    this.done += count;
    if (this.filled === CHUNK) await this.flush();
  }

  private async flush(): Promise<void> {
    const bytes = this.chunk.subarray(0, this.filled);
    this.onBytes(bytes);
    await this.writing;
    this.writing = writeAll(this.handle, bytes, this.start + this.written);
    this.writing.catch(() => {}); // Heard of at the next flush or at the end.
    this.written += bytes.byteLength;
    [this.chunk, this.spare] = [this.spare, this.chunk];
    this.filled = 0;
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

/** Makes the rename itself durable, where folders can be synced. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function withoutHashes(metadata: Metadata | undefined): Metadata | undefined {
  if (metadata === undefined) return undefined;
  return new Map([...metadata].filter(([key]) => !HASH_KEYS.has(key)));
}

/** Hashes have a fixed length, so a header with zeros in their place has the final header's size. */
function withHashes(
  metadata: Metadata | undefined,
  hashes: { readonly model: ModelHash; readonly legacy: LegacyHash } | undefined,
): Metadata {
  return new Map([
    ...(metadata ?? []),
    ['sshs_model_hash', hashes?.model.hex() ?? '0'.repeat(64)],
    ['sshs_legacy_hash', hashes?.legacy.hex() ?? '0'.repeat(8)],
  ]);
}
