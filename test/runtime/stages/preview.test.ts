// Previews: which pictures there are, where they stand, and that none is rendered twice.

import { readFileSync, rmSync } from 'node:fs';
import { expect, test } from 'vitest';
import { digestOf } from '../../../src/runtime/cache/digest.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import { readPrompts } from '../../../src/runtime/stages/pictures/sample-prompts.ts';
import { publishPicture, wholeLora } from '../../../src/runtime/stages/pictures/stored.ts';
import { preview } from '../../../src/runtime/stages/preview.ts';
import { IN04, OUT01 } from './lora-files.ts';
import { type PictureLab, pictureLab } from './picture-lab.ts';
import { type Item, pictureWorker } from './picture-worker.ts';

const attributes = {
  labels: ['raw', 'small'],
  strengths: [1, 0.5],
  without: true,
  sampler: 'euler_a',
  mixed_precision: 'bf16',
};
const prompts = 'a cat --d 1\na dog --d 2\n';
const loras = { 'lora.0': [{ name: OUT01, kernel: 3 as const }], 'lora.1': [{ name: IN04 }] };

const show = ({ lora, prompt }: Item): readonly number[] => [lora?.strength ?? 0, prompt.seed];

function openPreview(more: object = {}): Promise<PictureLab> {
  return pictureLab(preview, { id: 'grid', attributes: { ...attributes, ...more }, prompts, loras });
}

test('prompts are rows; the bare checkpoint and each LoRA in each strength are columns', async () => {
  using lab = await openPreview();
  const worker = pictureWorker({ show });
  expect(await lab.run(worker)).toMatchObject({ ok: true });
  expect(worker.rendered).toHaveLength(10);
  const [grid] = worker.grids;
  expect(grid?.columns).toEqual(['without', 'raw', 'raw × 0.5', 'small', 'small × 0.5']);
  expect(grid?.rows).toEqual(['a cat (seed 1, 1024×1024)', 'a dog (seed 2, 1024×1024)']);
  expect(grid?.cells).toHaveLength(10);
  expect(grid?.cells.every(({ compared }) => compared === null)).toBe(true);
  expect(lab.shown()).toEqual([
    ...['00-00-without.png', '00-01-raw.png', '00-02-raw_0.5.png', '00-03-small.png', '00-04-small_0.5.png'],
    ...['01-00-without.png', '01-01-raw.png', '01-02-raw_0.5.png', '01-03-small.png', '01-04-small_0.5.png'],
  ]);
});

test('neighbours share a LoRA, so that each is loaded once', async () => {
  using lab = await openPreview();
  const worker = pictureWorker({ show });
  await lab.run(worker);
  const paths = worker.rendered.map(({ lora }) => lora?.path ?? 'none');
  const changes = paths.filter((path, index) => path !== paths[index - 1]);
  expect(changes).toHaveLength(3);
});

test('without the bare checkpoint there is no column for it, and a strength of 0 is the bare checkpoint', async () => {
  using lab = await openPreview({ without: false, strengths: [0, 1] });
  const worker = pictureWorker({ show });
  await lab.run(worker);
  expect(worker.grids[0]?.columns).toEqual(['raw × 0', 'raw', 'small × 0', 'small']);
  // Both LoRAs share the picture in which neither acts.
  expect(worker.rendered.map(({ lora }) => lora?.strength ?? 0).sort()).toEqual([0, 0, 1, 1, 1, 1]);
});

test('a preview that is stopped in the middle goes on where it was', async () => {
  using lab = await openPreview();
  const stop = new AbortController();
  const first = pictureWorker({ show, before: (count) => count === 4 && stop.abort() });
  expect(await lab.run(first, { signal: stop.signal })).toMatchObject({ ok: false });
  expect(lab.shown()).toHaveLength(4);
  const second = pictureWorker({ show });
  expect(await lab.run(second)).toMatchObject({ ok: true });
  expect(second.requests).toEqual([6]);
  expect(lab.shown()).toHaveLength(10);
});

test('another strength renders that strength alone', async () => {
  using lab = await openPreview();
  await lab.run(pictureWorker({ show }));
  const worker = pictureWorker({ show });
  await lab.run(worker, { attributes: { strengths: [1, 0.5, -1] } });
  expect(worker.rendered.map(({ lora }) => lora?.strength)).toEqual([-1, -1, -1, -1]);
});

test('a picture that a training made of the same LoRA is taken as it is', async () => {
  using lab = await openPreview();
  const store = new Store(lab.folder.at('.lorac'));
  const [prompt] = await readPrompts(lab.folder.at('prompts.txt'), 'euler_a');
  if (prompt === undefined) throw new Error('no prompt');
  const [lora, checkpoint] = ['lora.0.safetensors', 'pony.safetensors'].map((name) => digestOfFile(lab, name));
  lab.folder.write({ '.lorac/work/training/1.png': '[9]' });
  const picture = { lora: wholeLora(lora as never), checkpoint: checkpoint as never, prompt, mixed_precision: 'bf16' };
  await publishPicture(store, picture as never, lab.folder.at('.lorac/work/training/1.png'));
  const worker = pictureWorker({ show });
  await lab.run(worker);
  expect(worker.rendered).toHaveLength(9);
});

test('the copies for the user are nothing that a preview depends on', async () => {
  using lab = await openPreview();
  await lab.run(pictureWorker({ show }));
  rmSync(lab.folder.at('.lorac/runs'), { recursive: true });
  const worker = pictureWorker({ show });
  expect(await lab.run(worker)).toMatchObject({ ok: true });
  expect(worker.rendered).toEqual([]);
});

function digestOfFile(lab: PictureLab, name: string): string {
  return digestOf(readFileSync(lab.folder.at(name)));
}
