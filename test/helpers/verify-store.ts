// Reads a whole store again, byte by byte: everything that would be served must be what it says it is.

import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { digestOf } from '../../src/runtime/cache/digest.ts';
import type { Fingerprint } from '../../src/runtime/cache/fingerprint.ts';
import { type Entry, Store } from '../../src/runtime/cache/store.ts';
import type { AbsolutePath } from '../../src/runtime/graph/graph.ts';

/** The entries that can be served. Throws when one of them has wrong bytes, or when an entry is damaged. */
export async function verifyStore(folder: AbsolutePath): Promise<readonly Entry[]> {
  const complaints: string[] = [];
  const store = new Store(folder, { warn: (message) => complaints.push(message) });
  const entries: Entry[] = [];
  for (const name of filesUnder(join(folder, 'ac'))) {
    if (!name.endsWith('.json')) continue;
    const fingerprint = basename(name, '.json') as Fingerprint;
    const found = await store.lookup(fingerprint);
    if (found.status !== 'found') throw new Error(`${fingerprint} has an entry that is ${found.status}. ${complaints}`);
    entries.push(found.entry);
    for (const { digest, path } of Object.values(found.entry.outputs)) {
      if (digestOf(readFileSync(path)) !== digest) throw new Error(`${path} has other bytes than its name says.`);
    }
  }
  return entries;
}

/** The files below a folder, if there is one. */
export function filesUnder(folder: string): readonly string[] {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
