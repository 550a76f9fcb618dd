// What a checkpoint is told to be, and what every other file is told to be instead.

import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { StageFailure } from '../../../src/runtime/events.ts';
import { type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { checkpoint } from '../../../src/runtime/stages/checkpoint.ts';
import { openFolder } from '../safetensors/files.ts';
import { narrowShapes } from '../sdxl/sdxl-fixtures.ts';
import { runAlone } from './lab.ts';
import { writeLora } from './lora-files.ts';

type Folder = Awaited<ReturnType<typeof openFolder>>;

interface Changes {
  readonly without?: RegExp;
  readonly filled?: { readonly [tensor: string]: number };
  readonly shapes?: { readonly [tensor: string]: readonly number[] };
  readonly metadata?: ReadonlyMap<string, string>;
}

/** A checkpoint with narrow layers, one byte to a number. */
async function writeCheckpoint(
  path: string,
  { without, filled = {}, shapes = {}, metadata }: Changes = {},
): Promise<string> {
  const tensors: TensorToWrite[] = [];
  const all = new Map([
    ...narrowShapes(),
    ...Object.entries(shapes).map(([name, shape]) => [name, { shape }] as const),
  ]);
  for (const [name, { shape }] of all) {
    if (without?.test(name)) continue;
    const bytes = new Uint8Array(shape.reduce((product, size) => product * size, 1)).fill(filled[name] ?? name.length);
    tensors.push({ name, dtype: 'F8_E4M3', shape, source: { kind: 'bytes', bytes } });
  }
  await writeSafetensors({ path, tensors, metadata, hashes: false });
  return path;
}

async function read(
  folder: Folder,
  path: string,
): Promise<{ readonly architecture: Record<string, unknown>; readonly vae: string }> {
  const work = folder.path('work');
  await mkdir(work, { recursive: true });
  const { outputs } = await runAlone({ stage: checkpoint, inputs: { checkpoint: path }, work });
  const json = async (output: string) => JSON.parse(await readFile(outputs[output] ?? '', 'utf8'));
  return { architecture: await json('architecture'), vae: (await json('vae')).digest };
}

test('a narrow SDXL is an SDXL', async () => {
  await using folder = await openFolder();
  const { architecture, vae } = await read(folder, await writeCheckpoint(folder.path('toy.safetensors')));
  expect(architecture).toEqual({
    unet: { widths: [8, 16, 32], depths: [0, 2, 10], timeWidth: 32, contextWidth: 48, vectorWidth: 1568 },
    te1: { layers: 12, width: 16, mlpWidth: 64 },
    te2: { layers: 32, width: 32, mlpWidth: 128 },
    pooledWidth: 32,
    vae: { widths: [8, 16, 32, 32] },
    prediction: 'epsilon',
    zeroTerminalSnr: false,
  });
  expect(vae).toMatch(/^[0-9a-f]{64}$/);
});

test('checkpoints that share a VAE say so, whatever else they hold and wherever it lies', async () => {
  await using folder = await openFolder();
  const path = folder.path('toy.safetensors');
  const plain = await read(folder, await writeCheckpoint(path));
  const unet = 'model.diffusion_model.out.2.weight';
  const other = await read(
    folder,
    await writeCheckpoint(path, { filled: { [unet]: 99 }, shapes: { v_pred: [0] }, metadata: new Map([['a', 'b']]) }),
  );
  expect(other.vae).toBe(plain.vae);
  expect(other.architecture.prediction).toBe('v');
  const vae = 'first_stage_model.decoder.conv_out.bias';
  const changed = await read(folder, await writeCheckpoint(path, { filled: { [vae]: 99 } }));
  expect(changed.vae).not.toBe(plain.vae);
});

test.each<[string, (folder: Folder) => Promise<string>, RegExp]>([
  [
    'a LoRA',
    (folder) => writeLora(folder.path('hero.safetensors')),
    /hero\.safetensors" is a LoRA, and a checkpoint is needed\./,
  ],
  ['a pickle by its name', (folder) => written(folder, 'model.ckpt', 'x'), /model\.ckpt" is a pickled checkpoint/],
  [
    'a pickle by its content',
    (folder) => written(folder, 'model.safetensors', 'PK\u0003\u0004\u0014\0\0\0\b\0'),
    /it is a pickle/,
  ],
  [
    'a truncated file',
    (folder) => cutOff(folder),
    /cut\.safetensors" is not a readable safetensors file: it is cut off/,
  ],
  ['an empty file', (folder) => written(folder, 'empty.safetensors', ''), /it is empty/],
  ['a file that is not there', async (folder) => folder.path('gone.safetensors'), /gone\.safetensors" does not exist/],
  ['a folder', async (folder) => folder.path('.'), /is a folder/],
  [
    'an inpainting model',
    (folder) => inpainting(folder),
    /is an inpainting checkpoint: its UNet takes 9 channels, and 4 are needed\./,
  ],
  [
    "SDXL's refiner",
    (folder) =>
      writeCheckpoint(folder.path('refiner.safetensors'), {
        without: /^conditioner\.embedders\.1\./,
        shapes: { 'conditioner.embedders.0.model.ln_final.weight': [32] },
      }),
    /is an SDXL refiner, and the base model is needed\./,
  ],
  [
    'Stable Diffusion 1 or 2',
    (folder) =>
      writeCheckpoint(folder.path('sd15.safetensors'), {
        without: /^conditioner\./,
        shapes: { 'cond_stage_model.transformer.text_model.final_layer_norm.weight': [32] },
      }),
    /is a Stable Diffusion 1 or 2 checkpoint, and SDXL is needed\./,
  ],
  [
    'one weight missing',
    (folder) => writeCheckpoint(folder.path('x.safetensors'), { without: /middle_block\.1\.proj_in\.weight/ }),
    /lacks the tensor "model\.diffusion_model\.middle_block\.1\.proj_in\.weight"/,
  ],
])('%s is refused by name, with what to do', async (_, make, message) => {
  await using folder = await openFolder();
  const failure = await read(folder, await make(folder)).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(StageFailure);
  expect((failure as StageFailure).message).toMatch(message);
});

async function written(folder: Folder, name: string, content: string): Promise<string> {
  await writeFile(folder.path(name), content, 'latin1');
  return folder.path(name);
}

async function cutOff(folder: Folder): Promise<string> {
  const path = await writeCheckpoint(folder.path('cut.safetensors'));
  await truncate(path, 1_000_000);
  return path;
}

function inpainting(folder: Folder): Promise<string> {
  return writeCheckpoint(folder.path('inpaint.safetensors'), {
    shapes: { 'model.diffusion_model.input_blocks.0.0.weight': [8, 9, 3, 3] },
  });
}
