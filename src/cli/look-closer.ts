// Has the worker look at the pixels of images, some at a time, and keeps what it saw: a Ctrl-C loses little.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Store } from '../runtime/cache/store.ts';
import { lookKey, parseLook } from '../runtime/dataset/pixel-look.ts';
import type { WorkerClient } from '../runtime/worker/client.ts';
import type { Looks, Picture } from './lint-dataset.ts';

const AT_A_TIME = 256;

/** Gives a function that is to be called with images that nobody has looked at. The worker is started at the first. */
export function closerLooker(options: {
  readonly store: Store;
  readonly looks: Looks;
  readonly signal: AbortSignal;
  readonly startWorker: () => Promise<WorkerClient>;
  readonly onLooked: (done: number, total: number) => void;
}): { look(images: readonly Picture[]): Promise<void>; close(): Promise<void> } {
  const { store, looks, signal, startWorker, onLooked } = options;
  let worker: Promise<WorkerClient> | undefined;

  async function look(images: readonly Picture[]): Promise<void> {
    const unseen = [...new Map(images.map((image) => [image.digest, image])).values()];
    if (unseen.length === 0) return;
    worker ??= startWorker();
    const client = await worker;
    const folder = await mkdtemp(join(tmpdir(), 'lorac-look-'));
    try {
      for (let start = 0; start < unseen.length; start += AT_A_TIME) {
        const some = unseen.slice(start, start + AT_A_TIME);
        const output = join(folder, 'looks.json');
        const items = some.map(({ digest, path }) => ({ name: digest as string, image: path as string }));
        const onProgress = (progress: { readonly type: string; readonly done?: number }) => {
          if (progress.type === 'progress') onLooked(start + (progress.done ?? 0), unseen.length);
        };
        await client.request({ op: 'look', items, output }, { signal, onProgress });
        const answers = JSON.parse(await readFile(output, 'utf8')) as { readonly [digest: string]: unknown };
        for (const { digest, path } of some) {
          const seen = parseLook(answers[digest]);
          // What was seen belongs to the bytes that were known before.
          if (seen !== undefined && store.files.look(path)?.facts.digest === digest) looks.set(lookKey(digest), seen);
        }
        await store.save();
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  const close = async () => {
    const client = await worker?.catch(() => undefined);
    await client?.close();
  };
  return { look, close };
}
