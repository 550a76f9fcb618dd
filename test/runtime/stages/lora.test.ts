// LoRA files of any trainer become the one form that all other stages read, and do the same as before.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { StageFailure } from '../../../src/runtime/events.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { hashesOf } from '../../../src/runtime/safetensors/hashes.ts';
import { type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { lora } from '../../../src/runtime/stages/lora.ts';
import { isCanonical } from '../../../src/runtime/surgery/canonical.ts';
import { factors } from '../../helpers/tensor-table.ts';
import { fileBytes, openFolder, writeBytes } from '../safetensors/files.ts';
import { narrowShapes } from '../sdxl/sdxl-fixtures.ts';
import { metadataOf, runAlone } from './lab.ts';
import { fiveModules, tensor, tensorsOf, trainedMetadata, writeLora } from './lora-files.ts';

type Folder = Awaited<ReturnType<typeof openFolder>>;
type Settings = { readonly [key: string]: unknown };

async function write(folder: Folder, tensors: readonly TensorToWrite[], metadata?: ReadonlyMap<string, string>) {
  const path = folder.path('hero.safetensors');
  await writeSafetensors({ path, tensors, metadata, hashes: false });
  return path;
}

async function adopt(folder: Folder, path: string) {
  const { outputs, said } = await runAlone({ stage: lora, inputs: { lora: path }, work: folder.path('.') });
  return { path: outputs.lora ?? '', said };
}

/** What is in a file: type, shape and numbers or bytes by name. */
async function contentOf(path: string): Promise<{ readonly [name: string]: string }> {
  await using file = await SafetensorsFile.open(path);
  const entries = [...file.header.tensors.values()].map(async ({ name, dtype, shape }) => {
    const bytes = await file.bytesOf(name);
    return [name, `${dtype} [${shape}] ${Buffer.from(bytes).toString('hex')}`] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

async function alphaOf(path: string, module: string): Promise<number> {
  await using file = await SafetensorsFile.open(path);
  const info = file.tensor(`${module}.alpha`);
  expect(info.dtype).toBe('F32');
  return new Float32Array((await file.bytesOf(info.name)).buffer)[0] ?? Number.NaN;
}

async function failureOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (error instanceof StageFailure) return `${error.failure.message}\nhint: ${error.failure.hint}`;
    throw error;
  }
  throw new Error('It did not fail.');
}

test('a file that is in this form already keeps every tensor, and a second time every byte', async () => {
  await using folder = await openFolder();
  const before = await writeLora(folder.path('hero.safetensors'));
  await using file = await SafetensorsFile.open(before);
  expect(isCanonical(file)).toBe(true);
  const once = await adopt(folder, before);
  expect(await contentOf(once.path)).toEqual(await contentOf(before));
  const bytes = await readFile(once.path);
  const twice = await adopt(folder, once.path);
  expect((await readFile(twice.path)).equals(bytes)).toBe(true);
});

test('its hashes are true, and what the trainer said is kept', async () => {
  await using folder = await openFolder();
  const { path } = await adopt(folder, await writeLora(folder.path('hero.safetensors')));
  const hashes = await hashesOf(path);
  expect(Object.fromEntries(await metadataOf(path))).toEqual({
    ...Object.fromEntries(trainedMetadata),
    sshs_model_hash: hashes.model,
    sshs_legacy_hash: hashes.legacy,
  });
});

const unetOnly = [{ name: 'lora_unet_middle_block_0_emb_layers_1' }];

test.each([
  ['two text encoders', fiveModules, undefined, 'sdxl_base_v1-0'],
  ['what it said before, though it is wrong', fiveModules, 'sd_v1', 'sd_v1'],
  ['nothing, where names do not tell', unetOnly, undefined, undefined],
])('the base that is written: %s', async (_, modules, said, wanted) => {
  await using folder = await openFolder();
  const metadata = new Map([['ss_network_dim', '4'], ...(said ? [['ss_base_model_version', said] as const] : [])]);
  const { path } = await adopt(folder, await writeLora(folder.path('hero.safetensors'), modules, { metadata }));
  expect((await metadataOf(path)).get('ss_base_model_version')).toBe(wanted);
});

const peft = (module: string) => factors(`${module}.lora_A.weight`, `${module}.lora_B.weight`);

test.each<readonly [string, Settings, number]>([
  ['no settings', {}, 2],
  [
    'a pattern from the start that is not its start',
    { 'unet.lora_alpha': 8, 'unet.alpha_pattern': { '^attentions.0.proj_in': 3 } },
    8,
  ],
  ['one alpha', { 'unet.lora_alpha': 8 }, 8],
  ['the alpha of another network', { 'text_encoder.lora_alpha': 8 }, 2],
  ['a stabilized rank', { 'unet.lora_alpha': 8, 'unet.use_rslora': true }, 8 * Math.SQRT2],
  ['a pattern for it', { 'unet.lora_alpha': 8, 'unet.alpha_pattern': { 'attentions.0.proj_in': 3 } }, 3],
  [
    'a pattern from the start',
    { 'unet.lora_alpha': 8, 'unet.alpha_pattern': { '^mid_block.attentions.0.proj_in': 3 } },
    3,
  ],
  ['the first of two patterns', { 'unet.alpha_pattern': { 'mid_block.attentions.0.proj_in': 3, proj_in: 5 } }, 3],
  ['the first of two, the shorter', { 'unet.alpha_pattern': { proj_in: 5, 'attentions.0.proj_in': 3 } }, 5],
  ['a pattern for several', { 'unet.alpha_pattern': { '(?:conv_in|mid_block.attentions.0.proj_in)': 7 } }, 7],
  ['a pattern for another', { 'unet.lora_alpha': 8, 'unet.alpha_pattern': { 'mid_block.attentions.1.proj_in': 3 } }, 8],
])("PEFT's scale becomes an alpha: %s", async (_, settings, alpha) => {
  await using folder = await openFolder();
  const metadata = new Map([['lora_adapter_metadata', JSON.stringify(settings)]]);
  const { path } = await adopt(folder, await write(folder, peft('unet.mid_block.attentions.0.proj_in'), metadata));
  const module = 'lora_unet_middle_block_1_proj_in';
  expect(await alphaOf(path, module)).toBe(Math.fround(alpha));
  expect((await metadataOf(path)).has('lora_adapter_metadata')).toBe(false);
});

test.each([
  [2, 3],
  [-2, 3],
])('a scalar of %s goes into alpha, its sign into up', async (scalar, alpha) => {
  await using folder = await openFolder();
  const module = 'lora_te2_text_projection';
  const pair = factors(`${module}.lora_down.weight`, `${module}.lora_up.weight`);
  const scalars = [tensor(`${module}.scalar`, 'F16', [1], [scalar]), tensor(`${module}.alpha`, 'F16', [], [alpha])];
  const before = await write(folder, [...pair, ...scalars]);
  const [was, is] = [await contentOf(before), await contentOf((await adopt(folder, before)).path)];
  expect(Object.keys(is).sort()).toEqual(
    ['alpha', 'lora_down.weight', 'lora_up.weight'].map((end) => `${module}.${end}`),
  );
  expect(await alphaOf(folder.path('lora.safetensors'), module)).toBe(6);
  expect(is[`${module}.lora_down.weight`]).toBe(was[`${module}.lora_down.weight`]);
  const isSame = is[`${module}.lora_up.weight`] === was[`${module}.lora_up.weight`];
  expect(isSame).toBe(scalar > 0);
});

test.each([
  ['.lora_magnitude_vector', '', [3], [3, 1]],
  ['.lora_magnitude_vector.weight', '', [3], [3, 1]],
  ['.lora_magnitude_vector', 'convolution', [1, 3, 1, 1], [3, 1, 1, 1]],
  ['.dora_scale', '', [3, 1], [3, 1]],
  // One per input, as LyCORIS had them before 2025, also where there are as many as outputs.
  ['.dora_scale', '', [1, 3], [1, 3]],
  ['.dora_scale', 'convolution', [1, 3, 1, 1], [1, 3, 1, 1]],
])('magnitudes "%s" %s of the shape %j become %j, with the same numbers', async (end, kind, shape, wanted) => {
  await using folder = await openFolder();
  const module = 'unet.mid_block.attentions.0.proj_in';
  const kernel = kind === '' ? {} : { kernel: 3 };
  const pair = factors(`${module}.lora_A.weight`, `${module}.lora_B.weight`, { in: 3, ...kernel });
  const before = await write(folder, [...pair, tensor(`${module}${end}`, 'F16', shape, [1, 2, 3])]);
  const found = (await contentOf((await adopt(folder, before)).path))['lora_unet_middle_block_1_proj_in.dora_scale'];
  expect(found).toBe(`F16 [${wanted}] 003c00400042`);
});

test('one file may mix spellings, as long as they are of different modules', async () => {
  await using folder = await openFolder();
  const mixed = [
    ...peft('unet.mid_block.attentions.0.proj_in'),
    ...peft('text_encoder_2.text_model.encoder.layers.3.mlp.fc1'),
    ...tensorsOf({ name: 'lora_unet_output_blocks_1_1_proj_in' }),
    ...tensorsOf({ name: 'lora_unet_mid_block_resnets_0_time_emb_proj' }),
    ...tensorsOf({ name: 'lora_te1_encoder_layers_0_mlp_fc1' }),
  ];
  const { path, said } = await adopt(folder, await write(folder, mixed));
  const modules = new Set(Object.keys(await contentOf(path)).map((name) => name.slice(0, name.indexOf('.'))));
  expect([...modules].sort()).toEqual([
    'lora_te1_text_model_encoder_layers_0_mlp_fc1',
    'lora_te2_text_model_encoder_layers_3_mlp_fc1',
    'lora_unet_middle_block_0_emb_layers_1',
    'lora_unet_middle_block_1_proj_in',
    'lora_unet_output_blocks_1_1_proj_in',
  ]);
  expect(said).toEqual([]);
});

test('a LoRA of Stable Diffusion 1 gets the names of sd-scripts for it', async () => {
  await using folder = await openFolder();
  const tensors = [
    ...factors(
      'unet.up_blocks.3.attentions.2.proj_in.lora_A.weight',
      'unet.up_blocks.3.attentions.2.proj_in.lora_B.weight',
    ),
    ...peft('unet.up_blocks.0.upsamplers.0.conv'),
    ...peft('text_encoder.text_model.encoder.layers.3.mlp.fc1'),
  ];
  const { path } = await adopt(folder, await write(folder, tensors));
  const modules = new Set(Object.keys(await contentOf(path)).map((name) => name.slice(0, name.indexOf('.'))));
  expect([...modules].sort()).toEqual([
    'lora_te_text_model_encoder_layers_3_mlp_fc1',
    'lora_unet_up_blocks_0_upsamplers_0_conv',
    'lora_unet_up_blocks_3_attentions_2_proj_in',
  ]);
  expect((await metadataOf(path)).has('ss_base_model_version')).toBe(false);
});

test('what is not understood is kept as it is, and said', async () => {
  await using folder = await openFolder();
  const tensors = [
    ...tensorsOf({ name: 'lora_te2_text_projection' }),
    ...peft('transformer.single_blocks.0.linear1'),
    tensor('bundle_emb.cat.string_to_param.*', 'F32', [1], [1]),
    tensor('\u001b[31mred', 'F32', [1], [1]),
    tensor('lora_te1_text_projection.lora_up.weight', 'F32', [1, 1], [1]),
  ];
  const before = await write(folder, tensors);
  const { path, said } = await adopt(folder, before);
  const [was, is] = [await contentOf(before), await contentOf(path)];
  for (const [name, content] of Object.entries(was)) expect(is[name]).toBe(content);
  expect(Object.keys(is)).toHaveLength(Object.keys(was).length);
  expect(said).toMatchSnapshot();
});

test.each([
  [
    'lora_unet_mid_block_attentions_0_proj_in.lora_down.weight',
    'lora_unet_mid_block_attentions_0_proj_in.lora_up.weight',
  ],
  ['unet.mid_block.attentions.0.proj_in.lora_A.weight', 'unet.mid_block.attentions.0.proj_in.lora_B.weight'],
  ['lora_unet_middle_block_1_proj_in.lora_A.weight', 'lora_unet_middle_block_1_proj_in.lora_B.weight'],
])('one module in two spellings is refused: %s', async (down, up) => {
  await using folder = await openFolder();
  const tensors = [...tensorsOf({ name: 'lora_unet_middle_block_1_proj_in' }), ...factors(down, up)];
  const path = await write(folder, tensors);
  const said = await failureOf(adopt(folder, path));
  expect(said.replaceAll(path, 'hero.safetensors')).toMatchSnapshot();
  await using file = await SafetensorsFile.open(path);
  expect(isCanonical(file)).toBe(false);
});

test('an alpha beside a module that is spelt otherwise is refused, since it may be meant for it', async () => {
  await using folder = await openFolder();
  const alpha = tensor('lora_unet_middle_block_1_proj_in.alpha', 'F16', [], [1]);
  const path = await write(folder, [...peft('unet.mid_block.attentions.0.proj_in'), alpha]);
  expect(await failureOf(adopt(folder, path))).toContain('has one module twice');
});

test('two factors that are no numbers of a scale are refused by name', async () => {
  await using folder = await openFolder();
  const module = 'lora_te2_text_projection';
  const pair = factors(`${module}.lora_down.weight`, `${module}.lora_up.weight`);
  const path = await write(folder, [...pair, tensor(`${module}.scale`, 'F32', [], [Number.NaN])]);
  expect(await failureOf(adopt(folder, path))).toContain(`"${module}.scale" of "${path}" is not a finite number`);
});

const checkpoint = [...narrowShapes()].map(([name, { shape }]) => {
  const length = shape.reduce((size, side) => size * side, 1);
  return { name, dtype: 'U8', shape, source: { kind: 'bytes', bytes: new Uint8Array(length) } } as const;
});

test.each<readonly [string, readonly TensorToWrite[], ReadonlyMap<string, string> | undefined]>([
  ['a checkpoint', checkpoint, undefined],
  ['a file without tensors', [], undefined],
  ['a textual inversion', [tensor('clip_l', 'F32', [1, 1], [1]), tensor('clip_g', 'F32', [1, 1], [1])], undefined],
  ['a model with block weights', [tensor('t1', 'F32', [1], [1])], new Map([['format', 'Inspire LBW 1.0']])],
  ['a VAE', [tensor('decoder.conv_in.weight', 'F32', [1], [1])], undefined],
])('%s is called by its name', async (_, tensors, metadata) => {
  await using folder = await openFolder();
  const path = await write(folder, tensors, metadata);
  const said = await failureOf(adopt(folder, path));
  expect(said.replaceAll(path, 'hero.safetensors')).toMatchSnapshot();
});

test.each([
  ['an empty file', new Uint8Array()],
  ['a file that was cut off', fileBytes('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', 8)],
  ['a web page', Buffer.from('<!DOCTYPE html><html></html>')],
])('%s is refused with the reason', async (_, bytes) => {
  await using folder = await openFolder();
  const path = await writeBytes(folder.path('hero.safetensors'), bytes);
  expect((await failureOf(adopt(folder, path))).replaceAll(path, 'hero.safetensors')).toMatchSnapshot();
});

test('nothing is left under the final name when a file cannot be written', async () => {
  await using folder = await openFolder();
  const module = 'lora_te2_text_projection';
  const pair = factors(`${module}.lora_down.weight`, `${module}.lora_up.weight`);
  const path = await write(folder, [...pair, tensor(`${module}.scalar`, 'F32', [2], [1, 2])]);
  await failureOf(adopt(folder, path));
  await expect(readFile(join(folder.path('.'), 'lora.safetensors'))).rejects.toThrow('ENOENT');
});
