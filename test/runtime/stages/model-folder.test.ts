// Programs whose checkpoint is the folder of a diffusers model, built with the fake worker.

import { renameSync, rmSync } from 'node:fs';
import { expect, test } from 'vitest';
import { noWorker } from '../../helpers/lab.ts';
import { folderOf, writeModelFolder } from '../../helpers/model-folder.ts';
import { settle } from '../../helpers/settle.ts';
import { narrowShapes } from '../sdxl/sdxl-fixtures.ts';
import { openWorkerLab } from './worker-lab.ts';

const program = `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw {
  base = pony  data = hero  steps = 6  save_every = 6
  network = locon { dim = 2  alpha = 1  conv_dim = 2  conv_alpha = 1 }
  sample = { every = 6  prompts = "prompts.txt" }
}
resize small { from = raw  thr = -6 }
preview grid { loras = [small]  prompts = "prompts.txt" }
`;
const inFolder = program.replace('pony.safetensors', 'sdxl');
const files = { 'prompts.txt': 'a cat --w 64 --h 64 --s 1 --d 1\n' };

async function openFolderLab(text = inFolder, change: (parts: ReturnType<typeof folderOf>) => void = () => {}) {
  const lab = await openWorkerLab(text, files);
  const parts = folderOf(narrowShapes());
  change(parts);
  await writeModelFolder(lab.at('sdxl'), parts);
  await settle();
  return lab;
}

test('a program is built from a folder, and then nothing is left to do', async () => {
  using lab = await openFolderLab();
  const { finished, asked } = await lab.build();
  expect(finished).toMatchObject({ ok: true });
  expect(asked.map(({ op }) => op)).toEqual(
    expect.arrayContaining(['encode_latents', 'train', 'decompose', 'frobenius']),
  );
  expect((await lab.build({}, { startWorker: noWorker })).finished.computed).toEqual([]);
  // Its index names the same folder.
  lab.write({ 'sdxl/model_index.json': '{}', 'main.lora': inFolder.replace('"sdxl"', '"sdxl/model_index.json"') });
  expect((await lab.build({}, { startWorker: noWorker })).finished.computed).toEqual([]);
});

test('a folder and a file with the same VAE share latents, and nothing else', async () => {
  using lab = await openFolderLab(program);
  await lab.build();
  lab.write({ 'main.lora': inFolder });
  const { asked, statuses } = await lab.build();
  expect(asked.map(({ op }) => op)).not.toContain('encode_latents');
  expect(statuses).toMatchObject({ pony: 'computed', 'raw:latents': 'fresh', raw: 'computed' });
});

test('another scheduler trains again, and measures no weight again', async () => {
  using lab = await openFolderLab(inFolder);
  lab.write({ 'sdxl/scheduler/scheduler_config.json': '{"prediction_type": "epsilon"}' });
  await settle();
  await lab.build();
  lab.write({ 'sdxl/scheduler/scheduler_config.json': '{"prediction_type": "v_prediction"}' });
  await settle();
  const { statuses } = await lab.build();
  expect(statuses).toMatchObject({ raw: 'computed', 'raw:latents': 'fresh', 'pony:frobenius': 'fresh' });
});

test('a folder that changes while it is trained on gives no result', async () => {
  using lab = await openFolderLab(inFolder.replace(/preview.*/, ''));
  const unet = lab.at('sdxl/unet/diffusion_pytorch_model.safetensors');
  const { failures } = await lab.build(
    {},
    {
      onEvent: (event) => {
        if (event.type !== 'node-progress' || event.node !== 'raw' || event.progress.type !== 'step') return;
        rmSync(unet, { force: true });
        lab.write({ 'sdxl/unet/diffusion_pytorch_model.safetensors': 'another' });
      },
    },
  );
  expect(failures.raw).toMatchObject({ kind: 'file-changing', message: expect.stringContaining(unet) });
});

test('an inpainting model is refused before any image is encoded', async () => {
  using lab = await openFolderLab(inFolder.replace(/preview.*/, ''), (parts) => {
    const name = 'unet/diffusion_pytorch_model.safetensors';
    const tensors = (parts.get(name) ?? []).filter((tensor) => tensor.name !== 'conv_in.weight');
    const bytes = new Uint8Array(8 * 9 * 9);
    parts.set(name, [
      ...tensors,
      { name: 'conv_in.weight', dtype: 'F8_E4M3', shape: [8, 9, 3, 3], source: { kind: 'bytes', bytes } },
    ]);
  });
  const { failures, asked, finished } = await lab.build();
  expect(failures.pony?.message).toMatch(/sdxl" is an inpainting checkpoint: its UNet takes 9 channels/);
  expect(asked).toEqual([]);
  expect(finished.skipped).toEqual(expect.arrayContaining(['raw:latents', 'raw', 'small']));
});

test('a folder that is not whole fails where it is read', async () => {
  using lab = await openFolderLab();
  renameSync(lab.at('sdxl/vae'), lab.at('sdxl/vae-of-old'));
  const { failures } = await lab.build();
  expect(failures.pony?.message).toMatch(/sdxl" is a folder, and "pony" needs a file\./);
});
