// The exact versions that the worker runs on, read from `python/requirements.lock`.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../package-root.ts';

/** The packages whose arithmetic shows in results. */
const TOOLS = ['torch', 'diffusers', 'transformers', 'pillow', 'tokenizers'] as const;

export type Tool = (typeof TOOLS)[number];

export interface LockFile {
  readonly path: string;
  /** SHA-256 of the whole file, in hexadecimal. */
  readonly digest: string;
  /** Version by package name, as it is written. Where Python's version decides, the first that is listed. */
  readonly pins: ReadonlyMap<string, string>;
}

export function readLockFile(): LockFile {
  const path = join(packageRoot(), 'python', 'requirements.lock');
  const text = readFileSync(path, 'utf8');
  const pins = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const pin = /^([\w.-]+)==([^\s;]+)/.exec(line);
    if (pin?.[1] && pin[2] && !pins.has(pin[1])) pins.set(pin[1], pin[2]);
  }
  return { path, digest: createHash('sha256').update(text).digest('hex'), pins };
}

let known: ReadonlyMap<string, string> | undefined;

/**
 * The pins of these packages, or of all whose arithmetic shows: part of the fingerprint of what is made with them.
 * Declared, never probed.
 */
export function lockedTools(tools: readonly Tool[] = TOOLS): { readonly [tool: string]: string } {
  known ??= readLockFile().pins;
  const pins = known;
  return Object.fromEntries(
    tools.map((tool) => {
      const version = pins.get(tool);
      if (version === undefined) throw new Error(`Internal error: the lock file does not pin "${tool}".`);
      return [tool, version];
    }),
  );
}
