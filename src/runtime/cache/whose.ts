// Whose files lie in `runs/<block>/`: a note beside them, so that nothing there is taken for another result's.
//
//   { "training": "…", "whole": { "raw": "…", "raw:samples": "…" } }
//
// Rules:
// - `training` changes when nothing of another training lies there any more, and before anything of the new one does.
// - A node is among `whole` while all that it has to show lies there. Whoever changes any of it takes the node out first.
// So what a kill leaves is right, or is known to be incomplete.

import { readFile, rename, writeFile } from 'node:fs/promises';
import type { AbsolutePath } from '../graph/graph.ts';
import { pathIn } from '../graph/paths.ts';
import { parseJson } from './entry.ts';
import { type Fingerprint, isRecord, parseFingerprint } from './fingerprint.ts';

export interface Whose {
  /** Whose event files, and whose metrics and pictures as far as there are some. */
  readonly training: Fingerprint | undefined;
  /** By node. */
  readonly whole: { readonly [node: string]: Fingerprint };
}

/** What the note says; nothing where it is missing or damaged. */
export async function readWhose(folder: AbsolutePath): Promise<Whose> {
  const text = await readFile(noteIn(folder), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const said = parseJson(text);
  const { training, whole } = isRecord(said) ? said : {};
  const known = Object.entries(isRecord(whole) ? whole : {}).flatMap(([node, value]) => {
    const fingerprint = parseFingerprint(value);
    return fingerprint === undefined ? [] : [[node, fingerprint] as const];
  });
  return { training: parseFingerprint(training), whole: Object.fromEntries(known) };
}

/** By one at a time: the file that is written first always has the same name, so that a kill leaves no more than one. */
export async function writeWhose(folder: AbsolutePath, whose: Whose): Promise<void> {
  const partial = `${noteIn(folder)}.partial`;
  await writeFile(partial, `${JSON.stringify(whose, undefined, 2)}\n`);
  await rename(partial, noteIn(folder));
}

/** Takes a node out, before anything of it is changed. */
export async function beginToShow(folder: AbsolutePath, node: string): Promise<void> {
  const whose = await readWhose(folder);
  if (whose.whole[node] === undefined) return;
  const { [node]: _, ...whole } = whose.whole;
  await writeWhose(folder, { ...whose, whole });
}

/** Says that all of a node's result lies there. */
export async function endToShow(folder: AbsolutePath, node: string, fingerprint: Fingerprint): Promise<void> {
  const whose = await readWhose(folder);
  await writeWhose(folder, { ...whose, whole: { ...whose.whole, [node]: fingerprint } });
}

const noteIn = (folder: AbsolutePath) => pathIn(folder, 'whose.json');
