// Saving: the name goes into the header, the tensors stay as they are.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { hashesOf } from '../../../src/runtime/safetensors/hashes.ts';
import { resize } from '../../../src/runtime/stages/resize.ts';
import { save } from '../../../src/runtime/stages/save.ts';
import { savePicture } from '../../../src/runtime/stages/save-as-it-is.ts';
import { openFolder } from '../safetensors/files.ts';
import { metadataOf, runAlone } from './lab.ts';
import { fiveModules, tensor, trainedMetadata, writeLora } from './lora-files.ts';
import { writeFactors } from './reference-factors.ts';

test('the file is called by its name, and its hashes are true', async () => {
  await using folder = await openFolder();
  const before = await writeLora(folder.path('before.safetensors'));
  const work = folder.path('work');
  await mkdir(work);
  const { outputs } = await runAlone({ stage: save, attributes: { title: 'my héro' }, inputs: { lora: before }, work });
  const after = outputs.lora ?? '';
  const hashes = await hashesOf(after);
  expect(Object.fromEntries(await metadataOf(after))).toEqual({
    ...Object.fromEntries(trainedMetadata),
    ss_output_name: 'my héro',
    'modelspec.title': 'my héro',
    sshs_model_hash: hashes.model,
    sshs_legacy_hash: hashes.legacy,
  });
  await using old = await SafetensorsFile.open(before);
  await using now = await SafetensorsFile.open(after);
  expect([...now.header.tensors.keys()]).toEqual([...old.header.tensors.keys()]);
  for (const name of now.header.tensors.keys()) expect(await now.bytesOf(name)).toEqual(await old.bytesOf(name));
});

async function saved(folder: Awaited<ReturnType<typeof openFolder>>, lora: string, format?: string): Promise<string> {
  const work = folder.path(`work-${format}`);
  await mkdir(work);
  const attributes = { title: 'hero', ...(format !== undefined && { format }) };
  const { outputs } = await runAlone({ stage: save, attributes, inputs: { lora }, work });
  return outputs.lora ?? '';
}

test('without a format the bytes are those of kohya', async () => {
  await using folder = await openFolder();
  const lora = await writeLora(folder.path('before.safetensors'));
  const [plain, kohya] = [await saved(folder, lora), await saved(folder, lora, 'kohya')];
  expect((await readFile(plain)).equals(await readFile(kohya))).toBe(true);
});

test.each([
  ['kohya-diffusers', 'lora_unet_up_blocks_0_resnets_1_conv1.lora_up.weight'],
  ['diffusers', 'unet.up_blocks.0.resnets.1.conv1.lora_B.weight'],
  ['comfyui', 'diffusion_model.output_blocks.1.0.in_layers.2.lora_up.weight'],
  ['lycoris', 'lycoris_up_blocks_0_resnets_1_conv1.lora_up.weight'],
])('saved as %s it has the names of that format, true hashes, and its own name', async (format, name) => {
  await using folder = await openFolder();
  const after = await saved(folder, await writeLora(folder.path('before.safetensors')), format);
  await using file = await SafetensorsFile.open(after);
  expect(file.header.tensors.has(name)).toBe(true);
  const [metadata, hashes] = [await metadataOf(after), await hashesOf(after)];
  expect(metadata.get('sshs_model_hash')).toBe(hashes.model);
  expect(metadata.get('modelspec.title')).toBe('hero');
  expect(metadata.get('ss_base_model_version')).toBe('sdxl_base_v1-0');
});

test('what a format cannot say is refused with the name of the file that was asked for', async () => {
  await using folder = await openFolder();
  const extra = [tensor('lora_unet_middle_block_1_norm.w_norm', 'F32', [1], [1])];
  const lora = await writeLora(folder.path('before.safetensors'), fiveModules, { extra });
  await expect(saved(folder, lora, 'diffusers')).rejects.toThrow(
    '"hero.safetensors" cannot be written in the format diffusers: "lora_unet_middle_block_1_norm" is of kind norm',
  );
});

test('a size that was asked for holds for the saved file too, however long its name', async () => {
  await using folder = await openFolder();
  const lora = await writeLora(folder.path('before.safetensors'));
  const factors = folder.path('factors.safetensors');
  await writeFactors(lora, factors);
  const small = folder.path('small');
  await mkdir(small);
  const bytes = 4600;
  const shrunk = await runAlone({
    stage: resize,
    attributes: { spn_lora: 1, size: bytes / 2 ** 20 },
    inputs: { lora, factors },
    work: small,
  });
  const work = folder.path('work');
  await mkdir(work);
  const title = 'n'.repeat(242);
  const { outputs } = await runAlone({
    stage: save,
    attributes: { title },
    inputs: { lora: shrunk.outputs.lora ?? '' },
    work,
  });
  await using file = await SafetensorsFile.open(outputs.lora ?? '');
  expect(file.sizeBytes).toBeLessThanOrEqual(bytes);
});

test('a picture is saved as it is, also over what a killed run left of it', async () => {
  await using folder = await openFolder();
  const [picture, work] = [folder.path('grid.png'), folder.path('work')];
  await mkdir(work);
  await writeFile(picture, 'all of the picture');
  await writeFile(folder.path('work/picture.png'), 'a part of the picture that is longer than all of it');
  const { outputs } = await runAlone({ stage: savePicture, inputs: { picture }, work });
  expect(await readFile(outputs.picture ?? '', 'utf8')).toBe('all of the picture');
});
