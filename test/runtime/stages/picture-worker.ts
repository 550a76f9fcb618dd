// A worker whose pictures are lists of numbers that a test decides on: what is on in them, not what they look like.
// It speaks through the client's interface, so that the stages, the store and the executor around it are the real ones.

import { readFileSync, writeFileSync } from 'node:fs';
import { StageFailure, type StageProgress } from '../../../src/runtime/events.ts';
import type { WorkerClient } from '../../../src/runtime/worker/client.ts';
import type { Grid, Sample, Work } from '../../../src/runtime/worker/protocol.ts';

export type Item = Sample['items'][number];

export interface PictureWorker {
  readonly start: () => Promise<WorkerClient>;
  /** Every picture that was rendered, in order. */
  readonly rendered: Item[];
  /** One for each request that renders: how many pictures it asked for. */
  readonly requests: number[];
  readonly grids: Grid[];
}

export interface Behaviour {
  /** What a picture shows. Pictures are as far apart as the root mean square of their differences. */
  readonly show: (item: Item) => readonly number[];
  /** Called before each picture; may stop the run. */
  readonly before?: (count: number) => void;
}

export function pictureWorker({ show, before = () => {} }: Behaviour): PictureWorker {
  const [rendered, requests, grids]: [Item[], number[], Grid[]] = [[], [], []];
  const read = (path: string): number[] => JSON.parse(readFileSync(path, 'utf8'));
  const perform = async (work: Work, signal: AbortSignal, tell: (progress: StageProgress) => void) => {
    if (work.op === 'sample') {
      requests.push(work.items.length);
      for (const [index, item] of work.items.entries()) {
        before(rendered.length);
        // Lets what the last picture set off happen.
        await new Promise((resolve) => setImmediate(resolve));
        if (signal.aborted) throw new StageFailure({ kind: 'cancelled', message: 'Stopped on request.' });
        writeFileSync(item.output, JSON.stringify(show(item)));
        rendered.push(item);
        tell({ type: 'artifact', name: item.name, path: item.output });
        tell({ type: 'progress', done: index + 1, total: work.items.length, unit: 'pictures' });
      }
      return {};
    }
    if (work.op === 'measure') {
      const distances = work.pairs.map(({ name, first, second }) => {
        const [one, other] = [read(first), read(second)];
        const squares = one.map((value, index) => (value - (other[index] ?? 0)) ** 2);
        return [name, Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length)];
      });
      writeFileSync(work.output, JSON.stringify(Object.fromEntries(distances)));
      return { distances: work.output };
    }
    if (work.op === 'grid') {
      grids.push(work);
      writeFileSync(work.output, JSON.stringify(work.cells.map(({ caption }) => caption)));
      return { grid: work.output };
    }
    throw new Error(`No test asked for ${work.op}.`);
  };
  const client = {
    hello: { device: 'cpu', deviceName: 'paper', torch: '0', python: '3', threads: 1 },
    isAlive: true,
    request: async (
      work: Work,
      options: { readonly signal: AbortSignal; onProgress(progress: StageProgress): void },
    ) => ({ outputs: await perform(work, options.signal, options.onProgress) }),
    close: async () => {},
  };
  return { start: async () => client as unknown as WorkerClient, rendered, requests, grids };
}
