// A checkpoint in the folder of a diffusers model: what it is told to be, and why others are refused.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { expect, test } from 'vitest';
import { wholeModel } from '../../../src/runtime/graph/model-folder.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import { type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { checkpoint } from '../../../src/runtime/stages/checkpoint.ts';
import { bytesOf, folderOf, writeModelFolder } from '../../helpers/model-folder.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { narrowShapes } from '../sdxl/sdxl-fixtures.ts';
import { runAlone } from './lab.ts';
import { tensor } from './lora-files.ts';

const UNET = 'unet/diffusion_pytorch_model.safetensors';
const VAE = 'vae/diffusion_pytorch_model.safetensors';
type Files = ReturnType<typeof folderOf>;

async function told(inputs: { readonly [role: string]: string }, work: string) {
  await mkdir(work, { recursive: true });
  const { outputs, said } = await runAlone({ stage: checkpoint, inputs, work });
  const json = async (output: string) => JSON.parse(await readFile(outputs[output] ?? '', 'utf8'));
  return { architecture: await json('architecture'), vae: (await json('vae')).digest as string, said };
}

/** What a folder is told to be. */
async function toldOf(change: (files: Files) => void = () => {}, scheduler?: object) {
  using folder = temporaryFolder();
  const files = folderOf(narrowShapes());
  change(files);
  await writeModelFolder(folder.at('sdxl'), files);
  if (scheduler) {
    const path = folder.at('sdxl/scheduler/scheduler_config.json');
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, JSON.stringify(scheduler));
  }
  return await told(wholeModel(absolutePath(folder.at('sdxl'))), folder.at('work'));
}

async function toldOfFile(other?: TensorToWrite) {
  using folder = temporaryFolder();
  const tensors = [...narrowShapes()].map(([name, { shape }]): TensorToWrite => {
    if (other?.name === name) return other;
    return { name, dtype: 'F8_E4M3', shape, source: { kind: 'bytes', bytes: bytesOf(name, shape) } };
  });
  const path = folder.at('toy.safetensors');
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
  return await told({ checkpoint: path }, folder.at('work'));
}

function changed(files: Files, file: string, change: (tensor: TensorToWrite) => TensorToWrite | undefined): void {
  files.set(
    file,
    (files.get(file) ?? []).flatMap((tensor) => change(tensor) ?? []),
  );
}

const zeros = (name: string, shape: readonly number[]): TensorToWrite => ({
  name,
  dtype: 'F8_E4M3',
  shape,
  source: { kind: 'bytes', bytes: new Uint8Array(shape.reduce((product, size) => product * size, 1)) },
});

test('a folder is the model that it is in one file, down to the VAE that decides about latents', async () => {
  expect(await toldOf()).toEqual(await toldOfFile());
});

test('a VAE with the names of old times is the same VAE, and another one is another', async () => {
  const { vae } = await toldOf();
  const old = await toldOf((files) =>
    changed(files, VAE, (tensor) => ({
      ...tensor,
      name: tensor.name
        .replace('.attentions.0.to_q.', '.attentions.0.query.')
        .replace('.attentions.0.to_k.', '.attentions.0.key.')
        .replace('.attentions.0.to_v.', '.attentions.0.value.')
        .replace('.attentions.0.to_out.0.', '.attentions.0.proj_attn.'),
    })),
  );
  expect(old.vae).toBe(vae);
  const other = await toldOf((files) =>
    changed(files, VAE, (tensor) =>
      tensor.name === 'decoder.conv_out.bias' ? zeros(tensor.name, tensor.shape) : tensor,
    ),
  );
  expect(other.vae).not.toBe(vae);
});

test('shards are one part', async () => {
  const { architecture } = await toldOf();
  const sharded = await toldOf((files) => {
    const tensors = files.get(UNET) ?? [];
    files.delete(UNET);
    for (const [index, of] of [0, 1, 2].entries()) {
      const mine = tensors.filter((_, place) => place % 3 === of);
      files.set(`unet/diffusion_pytorch_model-0000${index + 1}-of-00003.safetensors`, mine);
    }
  });
  expect(sharded.architecture).toEqual(architecture);
});

test('the configuration of the scheduler says what the model predicts', async () => {
  const { architecture } = await toldOf(undefined, {
    prediction_type: 'v_prediction',
    rescale_betas_zero_snr: true,
  });
  expect(architecture).toMatchObject({ prediction: 'v', zeroTerminalSnr: true });
  const plain = await toldOf(undefined, { prediction_type: 'epsilon' });
  expect(plain.architecture).toMatchObject({ prediction: 'epsilon', zeroTerminalSnr: false });
});

test.each<[string, Parameters<typeof toldOf>, RegExp]>([
  [
    'an inpainting model',
    [
      (files) =>
        changed(files, UNET, (tensor) =>
          tensor.name === 'conv_in.weight' ? zeros(tensor.name, [8, 9, 3, 3]) : tensor,
        ),
    ],
    /sdxl" is an inpainting checkpoint: its UNet takes 9 channels, and 4 are needed\.$/,
  ],
  [
    'one weight missing',
    [
      (files) =>
        changed(files, UNET, (tensor) =>
          tensor.name.startsWith('mid_block.attentions.0.proj_in') ? undefined : tensor,
        ),
    ],
    /sdxl" lacks the tensor "model\.diffusion_model\.middle_block\.1\.proj_in\.weight"/,
  ],
  [
    'a tensor too many',
    [(files) => files.get(VAE)?.push(zeros('decoder.gate.weight', [1]))],
    /has a tensor in its "vae" that SDXL does not have: "decoder\.gate\.weight"\.$/,
  ],
  ['a scheduler of the EDM kind', [undefined, { _class_name: 'EDMEulerScheduler' }], /of the EDM kind/],
  ['another prediction', [undefined, { prediction_type: 'sample' }], /predicts "sample" by its scheduler/],
  ['a configuration that is none', [undefined, []], /scheduler_config\.json that cannot be read/],
])('%s is refused by name', async (_, model, message) => {
  await expect(toldOf(...model)).rejects.toThrow(message);
});

const PROJECTION = 'conditioner.embedders.1.model.text_projection';

/** The first row of a matrix of SDXL's and that of its transpose. */
const rows = { right: [-0.0348, 0.0218, -0.0025], turned: [-0.0348, -0.0037, 0.0261] };

function projection(first: readonly number[], dtype: 'F16' | 'F32', isFolder: boolean): TensorToWrite {
  // In a folder, the row of a single file is the first column.
  const places = new Map(first.map((value, index) => [isFolder ? 32 * index : index, value]));
  const numbers = Array.from({ length: 32 * 32 }, (_, index) => places.get(index) ?? 0);
  return tensor(isFolder ? 'text_projection.weight' : PROJECTION, dtype, [32, 32], numbers);
}

test.each(['F16', 'F32'] as const)('a text projection that is turned round is told of (%s)', async (dtype) => {
  for (const [kind, first] of Object.entries(rows)) {
    const file = await toldOfFile(projection(first, dtype, false));
    const folder = await toldOf((files) =>
      changed(files, 'text_encoder_2/model.safetensors', (each) =>
        each.name === 'text_projection.weight' ? projection(first, dtype, true) : each,
      ),
    );
    for (const { said } of [file, folder]) {
      expect(said.map((text) => text.replace(/^"[^"]*"/, '"it"'))).toEqual(
        kind === 'right' ? [] : [expect.stringMatching(/^"it" has the text projection of SDXL the wrong way round/)],
      );
    }
  }
});
