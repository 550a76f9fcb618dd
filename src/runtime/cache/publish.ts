// From finished files in a work folder to an entry in the store, so that a kill at any moment loses no result.
//
//   hash and flush every output        killed here: the files are still in the work folder, the stage finishes again
//   write publishing.json              from here on the result can be published without the stage
//   rename each output into cas/       killed here: `finishPublish` goes on where this stopped
//   write the entry into ac/           killed here: done; the work folder goes when somebody tidies
//
// Members (one image's latents) are published while their stage works, thousands of them. They have no list of
// intentions and are not flushed: what a power cut takes is noticed by its size, and costs one image.

import { statSync } from 'node:fs';
import { readFile, rename } from 'node:fs/promises';
import { dirname, relative, sep } from 'node:path';
import type { AbsolutePath } from '../graph/graph.ts';
import { pathIn } from '../graph/paths.ts';
import type { Artifact } from '../stage.ts';
import { atomicWrite, makeFolder, syncFile, syncFolder } from './atomic-write.ts';
import { type Digest, digestFile } from './digest.ts';
import { type Entry, parseJson, type RunRecord, readEntry, writeEntry } from './entry.ts';
import { type Fingerprint, type FingerprintKey, fingerprintOf, isRecord } from './fingerprint.ts';

/** The part of the store that publishing needs. */
export interface Shelves {
  blobPath(digest: Digest): AbsolutePath;
  entryPath(fingerprint: Fingerprint): AbsolutePath;
  workPath(fingerprint: Fingerprint): AbsolutePath;
}

export interface PublishExtra {
  readonly record?: RunRecord;
  readonly members?: readonly Digest[];
  /** Outputs that are stored already and stay as they are. */
  readonly outputs?: Entry['outputs'];
  /** The work folder of this very fingerprint that all the files lie in: makes the publication survive a kill. */
  readonly from?: AbsolutePath;
}

interface Publication {
  readonly fingerprint: Fingerprint;
  readonly key: FingerprintKey;
  readonly files: { readonly [output: string]: AbsolutePath };
  readonly extra: PublishExtra;
}

const INTENTIONS = 'publishing.json';

/** Moves the files into the store and publishes the entry. */
export async function publish(shelves: Shelves, publication: Publication): Promise<Entry> {
  const { fingerprint, key, files, extra } = publication;
  if (fingerprintOf(key) !== fingerprint) throw new Error(`Internal error: "${fingerprint}" is not the key's.`);
  requireOurs(shelves, fingerprint, files);
  const durable = extra.from !== undefined;
  const taken = await takeStock(shelves, files, durable);
  const outputs = { ...extra.outputs, ...taken };
  const entry: Entry = { fingerprint, key, outputs, members: extra.members ?? [], record: extra.record ?? {} };
  if (extra.from !== undefined) {
    const from = extra.from;
    const inside = Object.entries(files).map(([output, path]) => [output, relative(from, path)]);
    const intentions = { entry: writeEntry(entry), files: Object.fromEntries(inside) };
    await atomicWrite(pathIn(from, INTENTIONS), JSON.stringify(intentions), { durable: true });
  }
  // By path: two outputs may be one file.
  const moves = new Map(Object.entries(files).map(([output, path]) => [path, (taken[output] as Artifact).path]));
  for (const [from, to] of moves) await moveIn(from, to, durable);
  await atomicWrite(shelves.entryPath(fingerprint), writeEntry(entry), { durable });
  return entry;
}

/** Outputs are moved, so a stage must never hand in a file of the user's, nor one that is stored already. */
function requireOurs(shelves: Shelves, fingerprint: Fingerprint, files: Publication['files']): void {
  const work = dirname(shelves.workPath(fingerprint)) + sep;
  const stranger = Object.values(files).find((path) => !path.startsWith(work));
  if (stranger !== undefined) throw new Error(`Internal error: the output "${stranger}" is not in a work folder.`);
}

/** Goes on with a publication that was cut off, or returns `undefined` when there is none that can be completed. */
export async function finishPublish(shelves: Shelves, fingerprint: Fingerprint): Promise<Entry | undefined> {
  const intentions = await readIntentions(shelves, fingerprint);
  if (intentions === undefined) return undefined;
  const { entry, files } = intentions;
  for (const [output, { digest, sizeBytes, path }] of Object.entries(entry.outputs)) {
    if (sizeOf(path) === sizeBytes) continue;
    const left = files[output];
    if (left === undefined || sizeOf(left) !== sizeBytes || (await digestFile(left)) !== digest) return undefined;
    await moveIn(left, path, true);
  }
  await atomicWrite(shelves.entryPath(fingerprint), writeEntry(entry), { durable: true });
  return entry;
}

/** The artifact of each file, the file's bytes flushed where they have to survive. A file that is the output of several roles is read once. */
async function takeStock(
  shelves: Shelves,
  files: { readonly [output: string]: AbsolutePath },
  durable: boolean,
): Promise<{ readonly [output: string]: Artifact }> {
  const known = new Map<AbsolutePath, Artifact>();
  for (const [output, path] of Object.entries(files)) {
    if (known.has(path)) continue;
    const sizeBytes = sizeOf(path);
    if (sizeBytes === undefined) throw new Error(`Internal error: output "${output}" was not written to "${path}".`);
    if (durable) await syncFile(path);
    const digest = await digestFile(path);
    known.set(path, { digest, sizeBytes, path: shelves.blobPath(digest) });
  }
  return Object.fromEntries(Object.entries(files).map(([output, path]) => [output, known.get(path) as Artifact]));
}

/** Renames over what is there: it has the same bytes, or ought to. */
async function moveIn(from: AbsolutePath, to: AbsolutePath, durable: boolean): Promise<void> {
  const folder = dirname(to) as AbsolutePath;
  if (statSync(folder, { throwIfNoEntry: false }) === undefined) {
    await makeFolder(folder);
    if (durable) await syncFolder(dirname(folder) as AbsolutePath);
  }
  await rename(from, to);
  if (durable) await syncFolder(folder);
}

function sizeOf(path: AbsolutePath): number | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat?.isFile() ? stat.size : undefined;
}

interface Intentions {
  readonly entry: Entry;
  /** Where in the work folder each output was. */
  readonly files: { readonly [output: string]: AbsolutePath };
}

async function readIntentions(shelves: Shelves, fingerprint: Fingerprint): Promise<Intentions | undefined> {
  const work = shelves.workPath(fingerprint);
  let text: string;
  try {
    text = await readFile(pathIn(work, INTENTIONS), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const content = parseJson(text);
  if (!isRecord(content) || typeof content.entry !== 'string' || !isRecord(content.files)) return undefined;
  const entry = readEntry(fingerprint, content.entry, (digest) => shelves.blobPath(digest));
  if (entry === undefined) return undefined;
  const files: { [output: string]: AbsolutePath } = {};
  for (const [output, name] of Object.entries(content.files)) {
    if (typeof name !== 'string' || relative(work, pathIn(work, name)).startsWith('..')) return undefined;
    files[output] = pathIn(work, name);
  }
  return { entry, files };
}
