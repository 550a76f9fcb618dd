// lorac chop as users run it: a process, what it prints, and the file that it leaves.

import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { SafetensorsFile } from '../../src/runtime/safetensors/file.ts';
import { fiveModules, tensor, writeLora } from '../runtime/stages/lora-files.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');

let folder: string;
const at = (name: string) => join(folder, name);

// The first call bundles what has changed.
beforeAll(async () => void (await run('--version')), 120_000);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-chop-'));
  await writeLora(at('hero.safetensors'));
});
afterEach(async () => await rm(folder, { recursive: true }));

async function run(...args: string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [lorac, ...args], {
    cwd: folder ?? '.',
    env: { NO_COLOR: '1', FORCE_COLOR: undefined, LORAC_PYTHON: '/nonexistent/python' },
    reject: false,
    stdin: 'ignore',
  });
  return { exitCode, stdout, stderr };
}

test('without a vector the blocks are listed, and nothing is written', async () => {
  const { exitCode, stdout } = await run('chop', 'hero.safetensors');
  expect(exitCode).toBe(0);
  expect(stdout.split('\n')).toEqual([
    'INFO: Blocks layout:',
    'INFO:   [ 3]  input_blocks.4 layers=3',
    'INFO:   [ 8]  middle_block.0 layers=3',
    'INFO:   [12] output_blocks.1 layers=3',
    expect.stringMatching(/^INFO: Vector string : "1,INP01,.*,OUT08"$/),
    'INFO: Pass through layers: 6',
  ]);
  expect(await readdir(folder)).toEqual(['hero.safetensors']);
});

test("the guide's vector writes NAME-chop.safetensors beside the file, and says what it did", async () => {
  const vector = '1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0';
  const { exitCode, stdout, stderr } = await run('chop', 'hero.safetensors', vector);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout.replace(/[\d.]+ k?B/g, '# B')).toBe(`kept     OUT01, TE1, TE2
dropped  IN04, MID00
tensors  9 of 15 tensors, # B of # B
saved    hero-chop.safetensors`);
  await using chopped = await SafetensorsFile.open(at('hero-chop.safetensors'));
  await using before = await SafetensorsFile.open(at('hero.safetensors'));
  expect(chopped.header.tensors.size).toBe(9);
  for (const name of chopped.header.tensors.keys())
    expect(await chopped.bytesOf(name)).toEqual(await before.bytesOf(name));
});

test('a file that is there stays, unless it may be replaced', async () => {
  await run('chop', 'hero.safetensors', '--keep', 'OUT01');
  const before = await readFile(at('hero-chop.safetensors'));
  expect(await run('chop', 'hero.safetensors', '--keep', 'IN04')).toEqual({
    exitCode: 2,
    stdout: '',
    stderr:
      'error: "hero-chop.safetensors" exists already.\nhint: name another with -o, or replace it with --overwrite',
  });
  expect(await readFile(at('hero-chop.safetensors'))).toEqual(before);
  expect(await run('chop', 'hero.safetensors', '--keep', 'IN04', '--overwrite')).toMatchObject({ exitCode: 0 });
  expect(await readFile(at('hero-chop.safetensors'))).not.toEqual(before);
});

test('the file itself is never written over, by whatever name', async () => {
  await symlink('hero.safetensors', at('link.safetensors'));
  for (const name of ['hero.safetensors', 'link.safetensors']) {
    const { exitCode, stderr } = await run('chop', 'hero.safetensors', '--keep', 'OUT01', '-o', name, '--overwrite');
    expect(exitCode).toBe(2);
    expect(stderr).toContain('is the file that is read');
  }
});

test('what goes wrong is told, and leaves nothing behind', async () => {
  const absent = await run('chop', 'nothing.safetensors');
  expect(absent).toMatchObject({ exitCode: 2, stderr: 'error: There is no file "nothing.safetensors".' });
  const empty = await run('chop', 'hero.safetensors', '--keep', 'OUT08', '--text-encoders', 'drop');
  expect(empty).toMatchObject({ exitCode: 1, stdout: '' });
  expect(empty.stderr).toContain('error: Nothing would be left');
  expect(empty.stderr).toContain('hint: Keep at least one of them.');
  const vain = await run('chop', 'hero.safetensors', '--keep', 'OUT01,OUT02', '-o', 'new.safetensors');
  expect(vain).toMatchObject({
    exitCode: 0,
    stderr: 'warning: The LoRA has no OUT02; it has IN04, MID00, OUT01, TE1, TE2.',
  });
  expect(await run('chop', 'hero.safetensors', '--keep', 'OUT01', '-o', 'no/such/folder.safetensors')).toMatchObject({
    exitCode: 2,
    stderr: 'error: There is no folder "no/such".',
  });
  expect((await readdir(folder)).sort()).toEqual(['hero.safetensors', 'new.safetensors']);
  expect(existsSync(at('hero-chop.safetensors'))).toBe(false);
});

test.each([
  [['hero'], 'There is no file "hero".', 'there is "hero.safetensors"'],
  [['heor.safetensors'], 'There is no file "heor.safetensors".', 'there is "hero.safetensors"'],
  [
    ['OUT01', 'hero.safetensors'],
    'There is no file "OUT01".',
    'the file comes first: lorac chop hero.safetensors OUT01',
  ],
  [['.'], '"." is a folder.', 'name a .safetensors file in it'],
])('what is meant by %j is said', async (args, message, hint) => {
  const stderr = `error: ${message}\nhint: ${hint}`;
  expect(await run('chop', ...args)).toEqual({ exitCode: 2, stdout: '', stderr });
});

test.each<[string, string, number]>([
  ['hero.safetensors/x.safetensors', 'a part of its path is a file and no folder', 2],
  [`${'x'.repeat(300)}.safetensors`, 'its name is too long', 2],
  ['/proc/x.safetensors', 'its folder takes no files', 1],
])('a place that takes no file is said to be none: %s', async (place, reason, code) => {
  if (place.startsWith('/proc/') && !existsSync('/proc/self')) return;
  const { exitCode, stderr } = await run('chop', 'hero.safetensors', '--keep', 'OUT01', '-o', place);
  expect(exitCode).toBe(code);
  expect(stderr).toContain(`error: "${place}" cannot be written: ${reason}.\nhint: name `);
  expect(await readdir(folder)).toEqual(['hero.safetensors']);
});

test('a file without modules has no blocks to list', async () => {
  await writeLora(at('other.safetensors'), [], {
    extra: [tensor('model.diffusion_model.out.2.bias', 'F32', [1], [1])],
  });
  for (const choice of [[], ['--keep', 'OUT01']]) {
    const { exitCode, stdout, stderr } = await run('chop', 'other.safetensors', ...choice);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toContain('"other.safetensors" has no LoRA modules.\nhint: `lorac inspect` says what it is');
  }
});

test('a format alone writes the whole LoRA with other names', async () => {
  const { exitCode, stdout, stderr } = await run('chop', 'hero.safetensors', '--format', 'comfyui');
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(
    stdout
      .replace(/[\d.]+ k?B/g, '# B')
      .split('\n')
      .slice(1),
  ).toEqual(['tensors  15 of 15 tensors, # B of # B', 'names    comfyui', 'saved    hero-chop.safetensors']);
  await using file = await SafetensorsFile.open(at('hero-chop.safetensors'));
  expect(file.header.tensors.size).toBe(15);
  expect(file.header.tensors.has('diffusion_model.input_blocks.4.1.proj_in.lora_up.weight')).toBe(true);
});

test("blocks of a file of any trainer are written with kohya's names, unless another format is asked for", async () => {
  await run('chop', 'hero.safetensors', '--format', 'diffusers', '-o', 'other.safetensors');
  const back = await run('chop', 'other.safetensors', '--weights', 'OUT01=0.5');
  expect(back).toMatchObject({ exitCode: 0, stderr: '' });
  await using chopped = await SafetensorsFile.open(at('other-chop.safetensors'));
  const module = 'lora_unet_output_blocks_1_0_in_layers_2';
  const names = ['alpha', 'lora_down.weight', 'lora_up.weight'].map((end) => `${module}.${end}`);
  expect([...chopped.header.tensors.keys()].filter((name) => name.startsWith('lora_unet')).sort()).toEqual(names);
  expect(chopped.header.metadata?.has('lora_adapter_metadata')).toBe(false);
  await run('chop', 'other.safetensors', '--keep', 'OUT01', '--format', 'diffusers', '-o', 'same.safetensors');
  await using same = await SafetensorsFile.open(at('same.safetensors'));
  expect(same.header.tensors.has('unet.up_blocks.0.resnets.1.conv1.lora_B.weight')).toBe(true);
});

test('a format that there is not is answered with those that there are', async () => {
  const { exitCode, stderr } = await run('chop', 'hero.safetensors', '--format', 'a1111');
  expect(exitCode).toBe(2);
  expect(stderr).toContain('kohya, kohya-diffusers, diffusers, comfyui, lycoris');
  expect(await readdir(folder)).toEqual(['hero.safetensors']);
});

test('layers of a text encoder are kept and dropped like blocks', async () => {
  const layers = [0, 3, 11].map((layer) => ({ name: `lora_te1_text_model_encoder_layers_${layer}_mlp_fc1` }));
  await writeLora(at('text.safetensors'), [
    ...fiveModules.slice(0, 3),
    ...layers,
    { name: 'lora_te2_text_projection' },
  ]);
  const { exitCode, stdout, stderr } = await run(
    'chop',
    'text.safetensors',
    '--drop',
    'TE1.1*,IN',
    '-o',
    'a.safetensors',
  );
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout.split('\n').slice(0, 2)).toEqual(['kept     MID00, OUT01, TE1, TE2', 'dropped  IN04, TE1.11']);
  const kept = await run('chop', 'text.safetensors', '--weights', 'TE1.3=0.5', '-o', 'b.safetensors');
  expect(kept.stdout.split('\n').slice(0, 2)).toEqual([
    'kept     TE1.3 × 0.5, TE2',
    'dropped  IN04, MID00, OUT01, TE1',
  ]);
  const vain = await run('chop', 'text.safetensors', '--keep', 'TE1.4,TE1.3', '-o', 'c.safetensors');
  expect(vain.stderr).toBe('warning: The LoRA has no TE1.4; it has IN04, MID00, OUT01, TE1, TE2.');
});

test('a LoRA for Stable Diffusion 1 is listed and chopped by its own blocks', async () => {
  await writeLora(at('old.safetensors'), [
    { name: 'lora_unet_down_blocks_3_resnets_0_conv1', kernel: 3 },
    { name: 'lora_unet_down_blocks_0_attentions_1_proj_in', kernel: 1 },
    { name: 'lora_unet_up_blocks_3_attentions_2_proj_in', kernel: 1 },
    { name: 'lora_te_text_model_encoder_layers_5_mlp_fc1' },
  ]);
  const listed = await run('chop', 'old.safetensors');
  expect(listed.stdout.split('\n').slice(1, 4)).toEqual([
    'INFO:   [ 1]  input_blocks.2 layers=3',
    'INFO:   [ 9] input_blocks.10 layers=3',
    'INFO:   [25] output_blocks.11 layers=3',
  ]);
  const vector = '0.5,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,1';
  const chopped = await run('chop', 'old.safetensors', vector, '--text-encoders', 'keep', '-o', 'a.safetensors');
  expect(chopped.stdout.split('\n').slice(0, 2)).toEqual(['kept     IN02, OUT11, TE', 'dropped  IN10']);
  expect(chopped.stderr).toBe('warning: The mask has no number for IN10, which the LoRA has; it is left out.');
  const wrong = await run('chop', 'old.safetensors', '--keep', 'TE2');
  expect(wrong).toMatchObject({ exitCode: 2, stdout: '' });
  expect(wrong.stderr).toContain('There is no block "TE2" in Stable Diffusion 1 and 2.');
});
