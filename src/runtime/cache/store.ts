// The folder that keeps results: `.lorac/` beside the program, or `LORAC_STORE`.
//
//   ac/ab/<fingerprint>.json   what a fingerprint gave: its key, and the digest of each output. Immutable.
//   cas/ab/<digest>            the bytes, under their SHA-256. Immutable.
//   work/<fingerprint>/        where a stage works. Stays after a failure or a kill, so that it can go on from there.
//   locks/<fingerprint>        who is at it just now.
//   runs/<block>/              files to look at: samples, metrics. Copies; nothing reads them back. `whose.ts` says whose.
//   mutable/                   what may be thrown away: the stat cache, history, what was placed where, event files of
//                              trainings whose folder in runs/ shows another one now.
//
// Rules:
// - Publish last: an output is written in `work/`, flushed and renamed into `cas/`; when all are there, the entry in
//   `ac/` is written. So an entry implies its blobs, and a kill at any moment leaves nothing half-written to be served.
// - An entry counts only when it is whole, belongs to its name, and every blob it names has the size it says.
// - The first result of a fingerprint stays, for as long as it can be served.
// - No absolute path is stored for what lies in the project, so a moved project keeps its store.

import { statSync } from 'node:fs';
import { readdir, readFile, rm, statfs } from 'node:fs/promises';
import { basename, dirname, sep } from 'node:path';
import { StageFailure } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import type { Json } from '../graph/json.ts';
import { pathIn } from '../graph/paths.ts';
import { atomicWrite, makeFolder } from './atomic-write.ts';
import { type Digest, digestFile, parseDigest } from './digest.ts';
import { type Entry, readEntry } from './entry.ts';
import { type Fingerprint, type FingerprintKey, parseFingerprint } from './fingerprint.ts';
import { acquireLock, type Lock, type LockOptions, tryLock } from './locks.ts';
import { MutableMap } from './mutable-map.ts';
import { finishPublish, type PublishExtra, publish } from './publish.ts';
import { parseStatEntry, StatCache } from './stat-cache.ts';
import { withStoreFailures } from './store-failures.ts';

export type { Entry } from './entry.ts';

/** `lost`: there is a result, but the bytes of `output` are not there any more. */
export type Lookup =
  | { readonly status: 'found'; readonly entry: Entry }
  | { readonly status: 'lost'; readonly output: string }
  | { readonly status: 'missing' };

export interface StoreOptions {
  readonly warn?: (message: string) => void;
  /** False: what is not known about a file of the user's is not found out, and is a failure. */
  readonly mayReadFiles?: boolean;
}

export class Store {
  readonly folder: AbsolutePath;
  /** What is known about the user's files. */
  readonly files: StatCache;
  /** The last fingerprint of each node of each program: what reasons are told from. */
  readonly history: MutableMap<string>;
  /** How often a result was asked for once more, by the fingerprint of its first generation. */
  readonly generations: MutableMap<number>;
  /** The digest of what we placed, by the name of the place. */
  readonly placed: MutableMap<string>;
  readonly #notes: Pick<MutableMap<Json>, 'isChanged' | 'save'>[] = [];
  readonly #warn: (message: string) => void;
  readonly #stats: MutableMap<ReturnType<typeof parseStatEntry> & {}>;
  readonly #parent: string;
  #isMade = false;
  /** That notes cannot be saved is worth saying once. */
  #hasWarned = false;

  /** Touches nothing: the folder is made when something is first written. */
  constructor(folder: AbsolutePath, options: StoreOptions = {}) {
    this.folder = folder;
    const parent = dirname(folder);
    this.#parent = parent.endsWith(sep) ? parent : parent + sep;
    this.#warn = options.warn ?? (() => {});
    const map = <Value extends string | number>(name: string, parse: (value: unknown) => Value | undefined) =>
      new MutableMap<Value>({ path: pathIn(folder, 'mutable', name), parse, warn: this.#warn });
    this.history = map('history.json', parseDigest);
    this.placed = map('placed.json', parseDigest);
    this.generations = map('generations.json', (value) =>
      Number.isSafeInteger(value) ? (value as number) : undefined,
    );
    this.#stats = new MutableMap({
      path: pathIn(folder, 'mutable', 'files.json'),
      parse: parseStatEntry,
      warn: this.#warn,
    });
    this.files = new StatCache(this.#stats, (path) => this.nameOf(path), options.mayReadFiles);
  }

  /** What a file is called in the store: relative to the store's parent when it lies in there, else its whole path. */
  nameOf(path: AbsolutePath): string {
    if (!path.startsWith(this.#parent)) return path;
    const name = path.slice(this.#parent.length);
    return sep === '/' ? name : name.replaceAll(sep, '/');
  }

  blobPath(digest: Digest): AbsolutePath {
    return pathIn(this.folder, 'cas', digest.slice(0, 2), digest);
  }

  hasBlob(digest: Digest): boolean {
    return statSync(this.blobPath(digest), { throwIfNoEntry: false })?.isFile() ?? false;
  }

  /**
   * Reads blobs again and removes those whose bytes are not what they are called by, so that they count as lost and
   * are made anew. Gives how many those were. For when something suggests it: it costs as much as reading them.
   */
  async removeDamaged(digests: Iterable<Digest>): Promise<number> {
    let removed = 0;
    for (const digest of new Set(digests)) {
      if (!this.hasBlob(digest) || (await digestFile(this.blobPath(digest))) === digest) continue;
      await this.#writing(() => rm(this.blobPath(digest), { force: true }));
      removed += 1;
    }
    return removed;
  }

  /** What is stored under a fingerprint, the size of every blob checked. */
  async lookup(fingerprint: Fingerprint): Promise<Lookup> {
    const entry = await this.#read(fingerprint);
    if (entry === undefined) return { status: 'missing' };
    for (const [output, { path, sizeBytes }] of Object.entries(entry.outputs)) {
      if (statSync(path, { throwIfNoEntry: false })?.size !== sizeBytes) return { status: 'lost', output };
    }
    return { status: 'found', entry };
  }

  /** As `lookup`, where the difference between lost and missing does not matter. */
  async lookupEntry(fingerprint: Fingerprint): Promise<Entry | undefined> {
    const found = await this.lookup(fingerprint);
    return found.status === 'found' ? found.entry : undefined;
  }

  /** The key of an entry, also when its blobs are lost. */
  async readKey(fingerprint: Fingerprint): Promise<FingerprintKey | undefined> {
    return (await this.#read(fingerprint))?.key;
  }

  /**
   * Takes finished files out of a work folder into the store, and publishes them. Where an entry can be served
   * already, its outputs stay, and only those that it lacks are added.
   */
  async publishEntry(
    fingerprint: Fingerprint,
    key: FingerprintKey,
    files: { readonly [output: string]: AbsolutePath },
    extra: PublishExtra = {},
  ): Promise<Entry> {
    const existing = await this.lookupEntry(fingerprint);
    if (!existing?.members.every((member) => this.hasBlob(member))) {
      return this.#writing(() => publish(this, { fingerprint, key, files, extra }));
    }
    const added = Object.fromEntries(
      Object.entries(files).filter(([output]) => existing.outputs[output] === undefined),
    );
    if (Object.keys(added).length === 0) return existing;
    const { members, record } = existing;
    const beside = { outputs: existing.outputs, members: [...new Set([...members, ...(extra.members ?? [])])], record };
    return this.#writing(() => publish(this, { fingerprint, key, files: added, extra: { ...extra, ...beside } }));
  }

  /** Completes what a killed run was about to publish, if it got so far. To be called under the fingerprint's lock. */
  async finishPublish(fingerprint: Fingerprint): Promise<Entry | undefined> {
    return this.#writing(() => finishPublish(this, fingerprint));
  }

  /** The folder that belongs to one fingerprint, as the last attempt left it. */
  async workFolder(fingerprint: Fingerprint): Promise<AbsolutePath> {
    const folder = this.workPath(fingerprint);
    await this.#writing(() => makeFolder(folder));
    return folder;
  }

  workPath(fingerprint: Fingerprint): AbsolutePath {
    return pathIn(this.folder, 'work', fingerprint);
  }

  async removeWork(fingerprint: Fingerprint): Promise<void> {
    await rm(this.workPath(fingerprint), { recursive: true, force: true });
  }

  /** The only one at a fingerprint, at a place (by the digest of its path) or at the notes, among all processes. */
  async lock(name: Fingerprint | Digest | 'mutable', options: LockOptions = {}): Promise<Lock> {
    const folder = pathIn(this.folder, 'locks');
    return this.#writing(async () => {
      await makeFolder(folder);
      return acquireLock(pathIn(folder, name), options);
    });
  }

  /** Where the files of a block lie that a user may want to look at. */
  runPath(block: string): AbsolutePath {
    return pathIn(this.folder, 'runs', block.replaceAll(/[/\\:*?"<>|]/g, '_'));
  }

  /** The same, made where it is missing. */
  async runFolder(block: string): Promise<AbsolutePath> {
    const folder = this.runPath(block);
    await this.#writing(() => makeFolder(folder));
    return folder;
  }

  /** Where event files of a training wait while its block shows another one. */
  eventsPath(training: Fingerprint): AbsolutePath {
    return pathIn(this.folder, 'mutable', 'events', training);
  }

  /** Whether somebody is at that fingerprint just now. */
  async isComputing(fingerprint: Fingerprint): Promise<boolean> {
    const path = pathIn(this.folder, 'locks', fingerprint);
    if (statSync(path, { throwIfNoEntry: false }) === undefined) return false;
    const lock = await tryLock(path);
    lock?.release();
    return lock === undefined;
  }

  /** How much the disk under the store can still take. */
  async freeBytes(): Promise<number> {
    await this.#writing(() => makeFolder(this.folder));
    const { bavail, bsize } = await statfs(this.folder);
    return bavail * bsize;
  }

  /** Further facts of one kind, kept in a file of that name. `parse` checks what comes out of it. */
  notes<Value extends Json>(name: string, parse: (value: unknown) => Value | undefined): MutableMap<Value> {
    const path = pathIn(this.folder, 'mutable', `${name}.json`);
    const map = new MutableMap<Value>({ path, parse, warn: this.#warn });
    this.#notes.push(map);
    return map;
  }

  /** Saves what may be thrown away, if any of it changed. Where it cannot be written, that is a warning. */
  async save(): Promise<void> {
    const maps = [this.#stats, this.history, this.generations, this.placed, ...this.#notes].filter(
      (map) => map.isChanged,
    );
    if (maps.length === 0) return;
    try {
      const lock = await this.lock('mutable');
      try {
        for (const map of maps) await this.#writing(() => map.save());
      } finally {
        lock.release();
      }
    } catch (error) {
      if (!(error instanceof StageFailure)) throw error;
      if (!this.#hasWarned) this.#warn(`${error.message} The next build has to find out again what this one knows.`);
      this.#hasWarned = true;
    }
  }

  /** Removes work folders whose result is published: what a kill between the two left behind. */
  async tidy(): Promise<void> {
    const folder = pathIn(this.folder, 'work');
    const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    for (const name of names) {
      const fingerprint = parseFingerprint(name);
      if (fingerprint === undefined || (await this.lookupEntry(fingerprint)) === undefined) continue;
      // Somebody may be at it again, because something else of it was lost.
      await makeFolder(pathIn(this.folder, 'locks'));
      const lock = await tryLock(pathIn(this.folder, 'locks', fingerprint));
      if (lock === undefined) continue;
      await this.removeWork(fingerprint);
      lock.release();
    }
  }

  entryPath(fingerprint: Fingerprint): AbsolutePath {
    return pathIn(this.folder, 'ac', fingerprint.slice(0, 2), `${fingerprint}.json`);
  }

  async #read(fingerprint: Fingerprint): Promise<Entry | undefined> {
    const path = this.entryPath(fingerprint);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    const entry = readEntry(fingerprint, text, (digest) => this.blobPath(digest));
    if (entry === undefined) this.#warn(`The stored result "${path}" is damaged and is not used.`);
    return entry;
  }

  /** Runs something that writes. Disk full and the like become failures that name the store. */
  async #writing<Value>(write: () => Promise<Value>): Promise<Value> {
    return withStoreFailures(this.folder, async () => {
      if (!this.#isMade) {
        await makeFolder(this.folder);
        // Nothing in here belongs into anybody's repository.
        const ignore = pathIn(this.folder, '.gitignore');
        if (basename(this.folder) === '.lorac' && statSync(ignore, { throwIfNoEntry: false }) === undefined) {
          await atomicWrite(ignore, '*\n', { durable: false });
        }
        this.#isMade = true;
      }
      return write();
    });
  }
}
