// A lab with the real stages, a checkpoint with SDXL's tensors in narrow layers, and the fake worker.

import { existsSync, readFileSync } from 'node:fs';
import type { TensorToWrite } from '../../../src/runtime/safetensors/writer.ts';
import { writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { stages } from '../../../src/runtime/stages/index.ts';
import { type FakeWorkerKnobs, startFakeWorker } from '../../helpers/fake-worker.ts';
import { type Lab, type LabRun, openLab } from '../../helpers/lab.ts';
import { pngOf } from '../../helpers/pictures.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { narrowShapes } from '../sdxl/sdxl-fixtures.ts';

export interface WorkerLab extends Lab {
  /** Builds with a worker that behaves as told, and gives what it was asked besides. */
  build(knobs?: FakeWorkerKnobs, options?: Parameters<Lab['run']>[0]): Promise<LabRun & { readonly asked: Asked }>;
}

/** The requests, in order, each with the number of its items. */
export type Asked = readonly { readonly op: string; readonly items?: number }[];

const images = Object.fromEntries(
  ['one', 'two', 'three'].flatMap((name, index) => [
    [`images/${name}.png`, pngOf({ width: 1024, height: 1024 - 64 * index, shade: index })],
    [`images/${name}.txt`, `picture ${name}`],
  ]),
);

export async function openWorkerLab(
  program: string,
  files: { readonly [name: string]: string } = {},
): Promise<WorkerLab> {
  const folder = temporaryFolder();
  await writeNarrowCheckpoint(folder.at('pony.safetensors'));
  const lab = await openLab({ 'main.lora': program, ...images, ...files }, { stages, folder });
  let builds = 0;
  return Object.assign(lab, {
    async build(knobs: FakeWorkerKnobs = {}, options: Parameters<Lab['run']>[0] = {}) {
      builds += 1;
      const JOURNAL = folder.at(`journal-${builds}`);
      const run = await lab.run({ startWorker: () => startFakeWorker({ ...knobs, JOURNAL }), ...options });
      const lines = existsSync(JOURNAL) ? readFileSync(JOURNAL, 'utf8').trim().split('\n') : [];
      const asked = lines.map((line) => {
        const { op, items } = JSON.parse(line) as { op: string; items?: string[] };
        return { op, ...(items ? { items: items.length } : {}) };
      });
      return { ...run, asked };
    },
  });
}

async function writeNarrowCheckpoint(path: string): Promise<void> {
  const tensors = [...narrowShapes()].map(([name, { shape }]): TensorToWrite => {
    const bytes = new Uint8Array(shape.reduce((product, size) => product * size, 1)).fill(name.length);
    return { name, dtype: 'F8_E4M3', shape, source: { kind: 'bytes', bytes } };
  });
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
}
