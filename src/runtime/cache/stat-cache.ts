// What is known about files that have not changed since they were last read, so that a build with nothing to do
// reads no content at all.
//
// - A file is unchanged when its size, time of change of content and of inode (in nanoseconds) and inode are the same.
// - An entry is kept only when the file had settled before the reading began. One that changed within the clock's
//   tick of it could change again without its times showing it, so such a file is read again next time.

import { type BigIntStats, statSync } from 'node:fs';
import { StageFailure } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import { type Digest, digestFile, parseDigest } from './digest.ts';
import { isRecord } from './fingerprint.ts';
import type { MutableMap } from './mutable-map.ts';

/** What was read from a file. Each fact is there when somebody needed it. */
export type FileFacts = {
  readonly digest?: Digest;
  /** Width and height of an image, upright. */
  readonly image?: readonly [number, number];
  /** EXIF's: how an image is turned to stand upright. */
  readonly orientation?: number;
  /** What else the header of an image tells. */
  readonly traits?: readonly string[];
  /** The digest of a caption file's first line. */
  readonly caption?: Digest;
  /** The digest of all its lines, without the space around them. */
  readonly captionLines?: Digest;
};

export type StatEntry = FileFacts & { readonly signature: string };

/** A file as it is now. Taken before reading it, and handed back with what was read. */
export interface Seen {
  readonly path: AbsolutePath;
  readonly sizeBytes: number;
  readonly signature: string;
  readonly changedMs: number;
  readonly seenMs: number;
  /** What is known already, because the file is the same as then. */
  readonly facts: FileFacts;
}

interface ReadOptions {
  readonly signal?: AbortSignal;
  /** Called when the file has to be read, first with nothing done. */
  readonly onRead?: (doneBytes: number, sizeBytes: number) => void;
}

/** Coarser than the tick of any clock that files get their times from, but for FAT and old network folders. */
const TICK_MS = 25;
/** More than the clocks of a computer and of a file server differ. */
const SET_BACK_MS = 60_000;
const ATTEMPTS = 3;

export class StatCache {
  /** False for one who only wants to know what is known: a file that would have to be read is a failure then. */
  readonly mayRead: boolean;
  readonly #entries: MutableMap<StatEntry>;
  readonly #nameOf: (path: AbsolutePath) => string;
  readonly #readings = new Map<AbsolutePath, Promise<Digest>>();
  /** Read in this run but too fresh to be trusted in the next. */
  readonly #thisRun = new Map<string, StatEntry>();

  constructor(entries: MutableMap<StatEntry>, nameOf: (path: AbsolutePath) => string, mayRead = true) {
    this.#entries = entries;
    this.#nameOf = nameOf;
    this.mayRead = mayRead;
  }

  /** Throws where files may not be read. To be called before reading one. */
  requireReading(path: AbsolutePath): void {
    if (this.mayRead) return;
    throw new StageFailure({
      kind: 'not-read',
      message: `"${path}" has not been read since it was last changed.`,
      hint: 'A build or a plan reads it.',
    });
  }

  /** What is there under a path, links followed, or `undefined` when there is nothing. */
  look(path: AbsolutePath): Seen | undefined {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined) return undefined;
    const name = this.#nameOf(path);
    const signature = signatureOf(stat);
    const recent = this.#thisRun.get(name);
    const entry = recent?.signature === signature ? recent : this.#entries.get(name);
    return {
      path,
      sizeBytes: Number(stat.size),
      signature,
      changedMs: Number(stat.ctimeMs),
      seenMs: Date.now(),
      facts: entry?.signature === signature ? entry : {},
    };
  }

  /** Keeps what was read, unless the file changed while it was being read. Says whether it stayed the same. */
  remember(seen: Seen, facts: FileFacts): boolean {
    const stat = statSync(seen.path, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined || signatureOf(stat) !== seen.signature) return false;
    const name = this.#nameOf(seen.path);
    const entry: StatEntry = { ...seen.facts, ...facts, signature: seen.signature };
    if (hasSettled(seen)) this.#entries.set(name, entry);
    else this.#thisRun.set(name, entry);
    return true;
  }

  /** The digest of a file, read only when it is new or changed. Rejects with ENOENT when there is no such file. */
  digestOf(path: AbsolutePath, options: ReadOptions = {}): Promise<Digest> {
    // Whoever asks while the file is being read for another waits for the same reading.
    const reading = this.#readings.get(path) ?? this.#readDigest(path, options);
    this.#readings.set(path, reading);
    const forget = () => this.#readings.delete(path);
    reading.then(forget, forget);
    return reading;
  }

  async #readDigest(path: AbsolutePath, options: ReadOptions): Promise<Digest> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const seen = this.look(path);
      if (seen?.facts.digest) return seen.facts.digest;
      if (seen !== undefined) this.requireReading(path);
      const onProgress = (doneBytes: number) => options.onRead?.(doneBytes, seen?.sizeBytes ?? 0);
      onProgress(0);
      const digest = await digestFile(path, { ...options, onProgress });
      if (seen !== undefined && this.remember(seen, { digest })) return digest;
    }
    throw new StageFailure({
      kind: 'file-changing',
      message: `"${path}" keeps changing while it is being read.`,
      hint: 'Build again when it is complete.',
    });
  }

  /** Waits out the clock's tick after we wrote a file ourselves, so that its entry can be trusted right away. */
  async rememberWritten(path: AbsolutePath, facts: FileFacts): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 2 * TICK_MS));
    const seen = this.look(path);
    if (seen !== undefined) this.remember(seen, facts);
  }
}

/** An entry that came out of a file, or `undefined` when it is none. */
export function parseStatEntry(value: unknown): StatEntry | undefined {
  if (!isRecord(value) || typeof value.signature !== 'string') return undefined;
  const { digest, image, orientation, traits, caption, captionLines } = value;
  if (digest !== undefined && parseDigest(digest) === undefined) return undefined;
  if (caption !== undefined && parseDigest(caption) === undefined) return undefined;
  if (captionLines !== undefined && parseDigest(captionLines) === undefined) return undefined;
  if (image !== undefined && !(Array.isArray(image) && image.length === 2 && image.every(isSide))) return undefined;
  if (orientation !== undefined && !isSide(orientation)) return undefined;
  if (traits !== undefined && !(Array.isArray(traits) && traits.every((trait) => typeof trait === 'string')))
    return undefined;
  return value as unknown as StatEntry;
}

function isSide(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

/** Whether any later change of the file would show in its times. */
function hasSettled({ changedMs, seenMs }: Seen): boolean {
  // So far ahead, the clock has been set back since: a change would now give it an earlier time.
  return changedMs < seenMs - TICK_MS || changedMs > seenMs + SET_BACK_MS;
}

function signatureOf(stat: BigIntStats): string {
  return `${stat.size}-${stat.mtimeNs}-${stat.ctimeNs}-${stat.ino}`;
}
