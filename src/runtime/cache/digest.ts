// SHA-256 of bytes: how every stored thing and every file of the user's is known.

import { createHash, hash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { AbsolutePath } from '../graph/graph.ts';

/** 64 lower-case hexadecimal digits. */
export type Digest = string & { readonly __brand: 'Digest' };

/** A digest that came through a door, or `undefined` when it is none. Safe to build a path from. */
export function parseDigest(value: unknown): Digest | undefined {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value) ? (value as Digest) : undefined;
}

/** The digest of bytes in memory, or of the UTF-8 form of a text. */
export function digestOf(content: Uint8Array | string): Digest {
  return hash('sha256', content) as Digest;
}

const CHUNK_BYTES = 4 * 1024 * 1024;

/**
 * The digest of a file of any size. The next piece is read while one is hashed, and pieces are short enough
 * (about 3 ms each) for timers and the screen to go on meanwhile.
 */
export async function digestFile(
  path: AbsolutePath,
  options: { readonly signal?: AbortSignal; readonly onProgress?: (doneBytes: number) => void } = {},
): Promise<Digest> {
  const file = await open(path, 'r');
  try {
    const sha = createHash('sha256');
    let doneBytes = 0;
    let [filling, full] = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)];
    let reading = file.read(filling, 0, CHUNK_BYTES, null);
    for (;;) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) return sha.digest('hex') as Digest;
      options.signal?.throwIfAborted();
      [filling, full] = [full, filling];
      reading = file.read(filling, 0, CHUNK_BYTES, null);
      // Awaited in the next turn; this only keeps a failure from counting as unhandled until then.
      reading.catch(() => {});
      sha.update(full.subarray(0, bytesRead));
      doneBytes += bytesRead;
      options.onProgress?.(doneBytes);
    }
  } finally {
    await file.close();
  }
}
