// Masks on their way into a training: each is encoded with its image, and only with that one.

import { expect, test } from 'vitest';
import type { ManifestImage } from '../../../src/runtime/stages/manifest.ts';
import { noWorker, outputOf } from '../../helpers/lab.ts';
import { pngOf } from '../../helpers/pictures.ts';
import { settle } from '../../helpers/settle.ts';
import { openWorkerLab } from './worker-lab.ts';

const plain = `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw { base = pony  data = hero  steps = 1  network = locon { dim = 2  alpha = 1  conv_dim = 2  conv_alpha = 1 } }
`;
const masked = plain.replace('"images" }', '"images"  masks = "masks" }');
const names = ['one', 'two', 'three'];
const mask = (name: string, shade: number) => [
  `masks/${name}.png`,
  pngOf({ width: 256, height: 256 - 16 * names.indexOf(name), shade }),
];
const masks = Object.fromEntries(names.map((name, at) => mask(name, 100 + at)));

async function masksOf(lab: Parameters<typeof outputOf>[0]): Promise<readonly (string | undefined)[]> {
  const images = JSON.parse(await outputOf(lab, 'hero:manifest', 'images')) as ManifestImage[];
  return images.map((image) => image.mask);
}

test('masks encode their images anew, an edited one its own image alone, and none the others', async () => {
  using lab = await openWorkerLab(plain);
  lab.write(masks);
  await settle();
  expect((await lab.build()).asked[0]).toEqual({ op: 'encode_latents', items: 6 });
  expect(await masksOf(lab)).toEqual([undefined, undefined, undefined]);
  lab.write({ 'main.lora': masked });
  const first = await lab.build();
  expect(first.finished).toMatchObject({ ok: true });
  expect(first.asked.map(({ op, items }) => `${op} ${items ?? ''}`)).toEqual(['encode_latents 6', 'train ']);
  expect(new Set(await masksOf(lab)).size).toBe(3);
  lab.write(Object.fromEntries([mask('two', 200)]));
  await settle();
  expect((await lab.build()).asked.map(({ op, items }) => `${op} ${items ?? ''}`)).toEqual([
    'encode_latents 2',
    'train ',
  ]);
  expect((await lab.build({}, { startWorker: noWorker })).finished.computed).toEqual([]);
  lab.write({ 'main.lora': plain });
  expect((await lab.build({}, { startWorker: noWorker })).finished).toMatchObject({ ok: true, computed: [] });
});

test('an image without a mask stops the build before anything is encoded, and the way out counts it as a whole', async () => {
  using lab = await openWorkerLab(masked);
  const { 'masks/two.png': _, ...others } = masks;
  lab.write(others);
  await settle();
  const { failures, asked } = await lab.build();
  expect(failures['hero:manifest']?.problems).toEqual([
    {
      path: lab.at('images/two.png'),
      message: `The image has no mask: there is no "${lab.at('masks/two.png')}".`,
    },
  ]);
  expect(asked).toEqual([]);
  lab.write({ 'main.lora': masked.replace('"masks"', '"masks"  mask_missing = whole') });
  expect((await lab.build()).finished).toMatchObject({ ok: true });
  expect((await masksOf(lab)).filter((each) => each === undefined)).toHaveLength(1);
});

test('alpha masks encode only images that have alpha', async () => {
  using lab = await openWorkerLab(plain);
  lab.write({ 'images/one.png': pngOf({ width: 512, height: 512, chunks: { tRNS: [0, 0] } }) });
  await settle();
  await lab.build();
  lab.write({ 'main.lora': plain.replace('"images" }', '"images"  alpha_mask = true }') });
  const { asked } = await lab.build();
  expect(asked[0]).toEqual({ op: 'encode_latents', items: 2 });
  expect((await masksOf(lab)).filter((each) => each !== undefined)).toEqual(['alpha']);
});

test('a mask that is replaced while images are encoded is named', async () => {
  using lab = await openWorkerLab(masked);
  lab.write(masks);
  await settle();
  const { failures } = await lab.build(
    {},
    {
      onEvent: (event) => {
        if (event.type === 'node-started' && event.node === 'raw:latents')
          lab.write(Object.fromEntries([mask('two', 222)]));
      },
    },
  );
  expect(failures['raw:latents']).toMatchObject({
    kind: 'file-changing',
    message: expect.stringContaining(lab.at('masks/two.png')),
  });
});

test('two equal images can have two masks', async () => {
  using lab = await openWorkerLab(masked);
  lab.write(masks);
  const picture = pngOf({ width: 1024, height: 1024, shade: 50 });
  lab.write({ 'images/one.png': picture, 'images/two.png': picture, 'images/three.png': picture });
  lab.write(
    Object.fromEntries(
      names.map((name) => [`masks/${name}.png`, pngOf({ width: 64, height: 64, shade: name.length })]),
    ),
  );
  await settle();
  const { finished, asked } = await lab.build();
  expect(finished).toMatchObject({ ok: true });
  expect(asked[0]).toEqual({ op: 'encode_latents', items: 4 });
});

test('how masks count is the training alone: no image is encoded again for it', async () => {
  using lab = await openWorkerLab(masked);
  lab.write(masks);
  await settle();
  await lab.build();
  lab.write({ 'main.lora': masked.replace('steps = 1', 'steps = 1  masked_loss = { }') });
  expect((await lab.build({}, { startWorker: noWorker })).finished.computed).toEqual([]);
  lab.write({ 'main.lora': masked.replace('steps = 1', 'steps = 1  masked_loss = { normalize = true }') });
  expect((await lab.build()).asked).toEqual([{ op: 'train' }]);
});
