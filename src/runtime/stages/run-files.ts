// Copies for the user to look at while and after a stage runs: `runs/<block>/metrics.jsonl`, `runs/<block>/samples/`,
// `runs/<block>/grid.png` and so on. Nothing reads them back, so a disk that is full here costs nothing but the copy.
// The worker puts event files beside them, so that `tensorboard --logdir runs` calls each training by its block.
//
// A block's folder shows one training at a time (`cache/whose.ts`). What is stored of another one can be copied again;
// its event files, which are not, wait elsewhere in the store until it is shown again.

import { constants, copyFile, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { digestOf } from '../cache/digest.ts';
import type { Fingerprint } from '../cache/fingerprint.ts';
import type { Store } from '../cache/store.ts';
import { readWhose, type Whose, writeWhose } from '../cache/whose.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import { pathIn } from '../graph/paths.ts';
import type { StageContext } from '../stage.ts';

/** What shows all pictures of a training together. */
export const montageNames = { montage: 'montage.png', animation: 'animation.webp' } as const;

const OF_A_TRAINING = ['samples', 'metrics.jsonl', ...Object.values(montageNames)];
const isEventFile = (name: string) => name.startsWith('events.out.tfevents.');

export class RunFiles {
  readonly folder: AbsolutePath;
  readonly #store: Store;
  readonly #report: StageContext['report'];
  /** The only one whose files may be put here, once one is named. */
  #training: Fingerprint | undefined;
  #isWhole = true;
  #hasComplained = false;

  private constructor(folder: AbsolutePath, { store, report }: Pick<StageContext, 'store' | 'report'>) {
    this.folder = folder;
    this.#store = store;
    this.#report = report;
  }

  static async open(context: Pick<StageContext, 'store' | 'report'>, block: string): Promise<RunFiles> {
    return new RunFiles(await context.store.runFolder(block), context);
  }

  /** Whether all was done so far. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  whose(): Promise<Whose> {
    return readWhose(this.folder);
  }

  /** As `takeFor`, for a training that begins: whoever has the folder. Whether that could be done. */
  async beginTraining(training: Fingerprint, signal: AbortSignal): Promise<boolean> {
    const lock = await this.#store.lock(digestOf(this.folder), { signal });
    try {
      return await this.#trying(() => this.takeFor(training));
    } finally {
      lock.release();
    }
  }

  /**
   * Makes the folder that of one training. What another left goes, so that its pictures are not taken for this one's.
   * From here on nothing is copied as soon as the folder is another training's. Only for who has the folder's lock.
   */
  async takeFor(training: Fingerprint): Promise<void> {
    this.#training = training;
    const { training: before } = await this.whose();
    await writeWhose(this.folder, { training: before, whole: {} });
    if (before !== training) {
      await this.#leave(before);
      await writeWhose(this.folder, { training, whole: {} });
    }
    await moveEventFiles(this.#store.eventsPath(training), this.folder);
    await rm(this.#store.eventsPath(training), { recursive: true, force: true });
  }

  async #leave(training: Fingerprint | undefined): Promise<void> {
    for (const name of OF_A_TRAINING.flatMap((name) => [name, `${name}.partial`])) {
      await rm(pathIn(this.folder, name), { recursive: true, force: true });
    }
    if (training !== undefined) await moveEventFiles(this.folder, this.#store.eventsPath(training));
    for (const name of await eventFilesIn(this.folder)) await rm(pathIn(this.folder, name), { force: true });
  }

  /** Copies a file under `name`, replacing what is there, whole. Gives the copy's path, or `from` where there is none. */
  async copy(from: AbsolutePath, ...name: readonly string[]): Promise<AbsolutePath> {
    const target = pathIn(this.folder, ...name);
    let isOurs = true;
    const isDone = await this.#trying(async () => {
      isOurs = this.#training === undefined || (await this.whose()).training === this.#training;
      if (!isOurs) return;
      await mkdir(pathIn(target, '..'), { recursive: true });
      const partial = `${target}.partial`;
      await copyFile(from, partial, constants.COPYFILE_FICLONE);
      await rename(partial, target);
    });
    if (!isOurs) this.#isWhole = false;
    return isDone && isOurs ? target : from;
  }

  /** Writes a text under `name`, replacing what is there. */
  async write(name: string, text: string): Promise<AbsolutePath> {
    const target = pathIn(this.folder, name);
    await this.#trying(() => writeFile(target, text));
    return target;
  }

  /** Removes a file or a folder. */
  async remove(name: string): Promise<void> {
    await this.#trying(() => rm(pathIn(this.folder, name), { recursive: true, force: true }));
  }

  /** Removes every picture of a folder but these. */
  async keepOnlyPictures(inside: 'samples' | 'pictures', names: ReadonlySet<string>): Promise<void> {
    const folder = pathIn(this.folder, inside);
    await this.#trying(async () => {
      for (const name of await namesIn(folder)) {
        if (/\.png(\.partial)?$/.test(name) && !names.has(name)) await rm(pathIn(folder, name));
      }
    });
  }

  /** What goes wrong with the disk is said once, and nothing but the copy is lost. */
  async #trying(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      this.#isWhole = false;
      if (code === 'ENOENT' || this.#hasComplained) return false;
      this.#hasComplained = true;
      this.#report({
        type: 'log',
        level: 'warning',
        message: `A copy in "${this.folder}" could not be made: ${message}`,
      });
      return false;
    }
  }
}

async function moveEventFiles(from: AbsolutePath, to: AbsolutePath): Promise<void> {
  const names = await eventFilesIn(from);
  if (names.length > 0) await mkdir(to, { recursive: true });
  for (const name of names) await rename(pathIn(from, name), pathIn(to, name));
}

async function eventFilesIn(folder: AbsolutePath): Promise<readonly string[]> {
  return (await namesIn(folder)).filter(isEventFile);
}

async function namesIn(folder: AbsolutePath): Promise<readonly string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}
