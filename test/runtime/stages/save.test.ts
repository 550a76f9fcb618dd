// Saving: the name goes into the header, the tensors stay as they are.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { hashesOf } from '../../../src/runtime/safetensors/hashes.ts';
import { resize } from '../../../src/runtime/stages/resize.ts';
import { save } from '../../../src/runtime/stages/save.ts';
import { savePicture } from '../../../src/runtime/stages/save-picture.ts';
import { openFolder } from '../safetensors/files.ts';
import { metadataOf, runAlone } from './lab.ts';
import { trainedMetadata, writeLora } from './lora-files.ts';
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
