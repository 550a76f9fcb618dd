// A weights file open for reading: the header is judged at once, tensors are read when asked for.
// Reading is by position, never mapped, so that memory does not grow with the file.

import { readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { SafetensorsError } from './error.ts';
import {
  CHECKPOINT_LIMITS,
  type Header,
  type Limits,
  parseHeader,
  readHeaderLength,
  type TensorInfo,
} from './header.ts';

export class SafetensorsFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly header: Header;
  private readonly handle: FileHandle;

  private constructor(options: { path: string; sizeBytes: number; header: Header; handle: FileHandle }) {
    this.path = options.path;
    this.sizeBytes = options.sizeBytes;
    this.header = options.header;
    this.handle = options.handle;
  }

  /** Throws `SafetensorsError` for a file that is not what it should be, and the system's error for one that cannot be opened. */
  static async open(path: string, limits: Limits = CHECKPOINT_LIMITS): Promise<SafetensorsFile> {
    const handle = await open(path, 'r');
    try {
      const facts = await handle.stat();
      if (facts.isDirectory()) throw new SafetensorsError(path, 'it is a folder.', 'other-format');
      if (!facts.isFile()) throw new SafetensorsError(path, 'it is no ordinary file.', 'other-format');
      const fileSize = facts.size;
      const prefix = await readUpTo(handle, 8, 0);
      refuseOtherFormats(path, prefix);
      const length = readHeaderLength({ path, prefix, fileSize, limits });
      const bytes = await readUpTo(handle, length, 8);
      if (bytes.byteLength < length) throw new SafetensorsError(path, 'it was cut off while it was read.', 'cut-off');
      const header = parseHeader({ path, bytes, fileSize, limits });
      return new SafetensorsFile({ path, sizeBytes: fileSize, header, handle });
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** The entry of a tensor that must be there. */
  tensor(name: string): TensorInfo {
    const info = this.header.tensors.get(name);
    if (info === undefined) throw new SafetensorsError(this.path, `it has no tensor ${JSON.stringify(name)}.`);
    return info;
  }

  /** Where in the file a tensor's bytes begin. */
  positionOf(info: TensorInfo): number {
    return this.header.dataStart + info.begin;
  }

  /** A tensor's bytes, in memory of their own. */
  async bytesOf(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const info = this.tensor(name);
    const bytes = new Uint8Array(info.end - info.begin);
    await this.readInto(bytes, this.positionOf(info));
    return bytes;
  }

  /** A tensor's bytes at once: for scalars, of which there are thousands and where waiting costs more than reading. */
  bytesNow(info: TensorInfo): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(info.end - info.begin);
    const count = readSync(this.handle.fd, bytes, 0, bytes.byteLength, this.positionOf(info));
    if (count < bytes.byteLength)
      throw new SafetensorsError(this.path, 'it became shorter while it was read.', 'cut-off');
    return bytes;
  }

  /** Fills `target` from `position` of the file on. */
  async readInto(target: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < target.byteLength) {
      const { bytesRead } = await this.handle.read(target, done, target.byteLength - done, position + done);
      if (bytesRead === 0) throw new SafetensorsError(this.path, 'it became shorter while it was read.', 'cut-off');
      done += bytesRead;
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function readUpTo(handle: FileHandle, length: number, position: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}

/**
 * Other files that people hand over are told by their first bytes, whatever their name says.
 * A header's length is below 2^32, so a file of ours has four zeros there; only a zip archive may have them too.
 */
function refuseOtherFormats(path: string, prefix: Uint8Array): void {
  const start = Buffer.from(prefix).toString('latin1');
  const zip = start.startsWith('PK\u0003\u0004');
  if (!zip && start.endsWith('\0\0\0\0')) return;
  const [first = 0, second = 0] = prefix;
  const refuse = (reason: string): never => {
    throw new SafetensorsError(path, reason, 'other-format');
  };
  if (zip || (first === 0x80 && second >= 2 && second <= 5)) {
    refuse('it is a pickle (.ckpt, .pt). Loading one runs code of whoever made it.');
  }
  if (start.startsWith('GGUF')) refuse('it is a GGUF file.');
  if (start.startsWith('<!DOCTYP') || start.startsWith('<html')) refuse('it is a web page, not weights.');
  if (start.startsWith('version ')) refuse('it is a Git LFS pointer; the weights themselves were not fetched.');
}
