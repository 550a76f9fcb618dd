// Copies for the user to look at while and after a stage runs: `runs/<block>/metrics.jsonl`, `runs/<block>/samples/`,
// `runs/<block>/grid.png` and so on. Nothing reads them back, so a disk that is full here costs nothing but the copy.
// The worker puts event files beside them, so that `tensorboard --logdir runs` calls each training by its block.

import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { AbsolutePath } from '../graph/graph.ts';
import { pathIn } from '../graph/paths.ts';
import type { StageContext } from '../stage.ts';

/** What shows all pictures of a training together. */
export const montageNames = { montage: 'montage.png', animation: 'animation.webp' } as const;

export class RunFiles {
  readonly folder: AbsolutePath;
  readonly #report: StageContext['report'];
  #hasComplained = false;

  private constructor(folder: AbsolutePath, report: StageContext['report']) {
    this.folder = folder;
    this.#report = report;
  }

  static async open(context: StageContext, block: string): Promise<RunFiles> {
    return new RunFiles(await context.store.runFolder(block), context.report);
  }

  /** Removes what another training of this block left, so that its pictures are not taken for this one's. */
  async beginTraining(context: StageContext): Promise<void> {
    const note = pathIn(this.folder, 'training');
    const training = basename(context.work);
    await this.#trying(async () => {
      const before = await readFile(note, 'utf8').catch(() => '');
      if (before === training) return;
      await rm(pathIn(this.folder, 'samples'), { recursive: true, force: true });
      const events = (await readdir(this.folder)).filter((name) => name.startsWith('events.out.tfevents.'));
      for (const name of ['metrics.jsonl', ...Object.values(montageNames), ...events]) {
        await rm(pathIn(this.folder, name), { force: true });
      }
      await writeFile(note, training);
    });
  }

  /** Copies a file under `name`, replacing what is there, whole. Gives the copy's path. */
  async copy(from: AbsolutePath, ...name: readonly string[]): Promise<AbsolutePath> {
    const target = pathIn(this.folder, ...name);
    await this.#trying(async () => {
      await mkdir(pathIn(target, '..'), { recursive: true });
      const partial = `${target}.partial`;
      await copyFile(from, partial);
      await rename(partial, target);
    });
    return target;
  }

  /** Writes a text under `name`, replacing what is there. */
  async write(name: string, text: string): Promise<AbsolutePath> {
    const target = pathIn(this.folder, name);
    await this.#trying(() => writeFile(target, text));
    return target;
  }

  /** Removes every picture of a folder but these. */
  async keepOnlyPictures(inside: 'samples' | 'pictures', names: ReadonlySet<string>): Promise<void> {
    const folder = pathIn(this.folder, inside);
    await this.#trying(async () => {
      for (const name of await readdir(folder)) {
        if (name.endsWith('.png') && !names.has(name)) await rm(pathIn(folder, name));
      }
    });
  }

  async #trying(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      if (code === 'ENOENT' || this.#hasComplained) return;
      this.#hasComplained = true;
      this.#report({
        type: 'log',
        level: 'warning',
        message: `A copy in "${this.folder}" could not be made: ${message}`,
      });
    }
  }
}
