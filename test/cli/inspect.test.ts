// lorac inspect as users run it: a process and what it prints.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeSafetensors } from '../../src/runtime/safetensors/writer.ts';
import { narrowShapes } from '../runtime/sdxl/sdxl-fixtures.ts';
import { fiveModules, tensor, writeLora } from '../runtime/stages/lora-files.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');

let folder: string;
const at = (name: string) => join(folder, name);

const metadata = new Map([
  ['ss_base_model_version', 'sdxl_base_v1-0'],
  ['ss_network_dim', '4'],
  ['ss_training_started_at', '1700000000.5'],
  ['ss_training_comment', 'red \u001b[31malert\u001b[0m\u0007\nnext \u202eline'],
  ['ss_tag_frequency', JSON.stringify(Array.from({ length: 99 }, (_, index) => index))],
  ['sshs_model_hash', 'stale'],
]);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-inspect-'));
  await writeLora(at('hero.safetensors'), fiveModules, { metadata });
  const fewer = fiveModules.slice(1).map((module) => ({ ...module, rank: 2, strength: 0.5 }));
  await writeLora(at('other.safetensors'), fewer, { metadata });
  await writeLora(at('same.safetensors'), fiveModules, { metadata });
  const broken = tensor('lora_unet_out_2.lora_up.weight', 'F16', [2, 1], [1, Number.NaN]);
  const down = tensor('lora_unet_out_2.lora_down.weight', 'F16', [1, 2], [1, 0]);
  await writeLora(at('broken.safetensors'), fiveModules, { extra: [broken, down] });
  const shapes = [...narrowShapes()].map(([name, { shape }]) => {
    const bytes = new Uint8Array(2 * shape.reduce((product, size) => product * size, 1)).fill(0x3c);
    return { name, dtype: 'F16', shape, source: { kind: 'bytes', bytes } } as const;
  });
  await writeSafetensors({ path: at('base.safetensors'), tensors: shapes, metadata: undefined, hashes: false });
  await writeSafetensors({
    path: at('hero.lbw.safetensors'),
    tensors: [tensor('t1', 'F16', [1], [1])],
    metadata: new Map([['format', 'Inspire LBW 1.0']]),
    hashes: false,
  });
  await writeFile(at('note.txt'), 'not weights');
  // The first call bundles what has changed.
  await run('--version');
}, 120_000);

afterAll(async () => await rm(folder, { recursive: true }));

async function run(...args: string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [lorac, ...args], {
    cwd: folder,
    env: { NO_COLOR: '1', FORCE_COLOR: undefined, LORAC_PYTHON: '/nonexistent/python' },
    reject: false,
    stdin: 'ignore',
  });
  return { exitCode, stdout, stderr };
}

test('a LoRA: what it is made of, its blocks, layout, hashes and metadata, and what is wrong with it', async () => {
  const { exitCode, stdout, stderr } = await run('inspect', 'hero.safetensors');
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout).toMatchSnapshot();
  expect(stdout.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u);
});

test('norms per block, and no hashes when none are asked for', async () => {
  const { stdout } = await run('inspect', 'hero.safetensors', '--norms', '--no-hashes');
  expect(stdout.split('\n\n').slice(1, 4)).toMatchSnapshot();
  expect(stdout).not.toContain('AutoV2');
});

test('against its base, norms are relative', async () => {
  const { exitCode, stdout } = await run('inspect', 'hero.safetensors', 'base.safetensors', '--json');
  expect(exitCode).toBe(0);
  const { blocks } = JSON.parse(stdout);
  // Each of its 16 × 16 weights is the same number: 0x3c3c as a half.
  expect(blocks.find(({ place }: { place: string }) => place === 'IN04')).toMatchObject({
    baseNorm: expect.closeTo(16 * (1 + 0x3c / 1024), 6),
    norm: expect.any(Number),
  });
});

test('--json says everything in full', async () => {
  const { stdout } = await run('inspect', 'hero.safetensors', '--json', '--norms');
  expect(stdout.split('\n')).toHaveLength(1);
  const told = JSON.parse(stdout);
  expect(told).toMatchObject({
    kind: 'lora',
    base: { base: 'SDXL' },
    families: { LoRA: 5 },
    naming: { kohya: 5 },
    metadata: Object.fromEntries([...metadata].filter(([key]) => !key.startsWith('sshs_'))),
  });
  expect(told.modules).toHaveLength(5);
  expect(told.modules[0]).toMatchObject({ block: 'TE1', kind: 'linear', rank: 4, alpha: 2, scale: 0.5 });
  expect(told.hashes.sha256).toMatch(/^[0-9a-f]{64}$/);
});

test('two LoRAs are compared, with --norms also by what they do', async () => {
  const { exitCode, stdout } = await run('inspect', 'hero.safetensors', 'other.safetensors', '--norms', '--no-hashes');
  expect(exitCode).toBe(0);
  expect(stdout).toMatchSnapshot();
  const same = await run('inspect', 'hero.safetensors', 'same.safetensors', '--norms');
  expect(same.stdout).toContain('the same bytes');
  expect(same.stdout).toContain('All shared modules have the same family, shape, rank and scale.');
  expect(same.stdout).toContain('= 0.00 in all');
});

test('a block that only the second file has is named, and is not infinitely far away', async () => {
  await run('chop', 'hero.safetensors', '--keep', 'OUT01', '--text-encoders', 'drop', '-o', 'few.safetensors');
  const { stdout } = await run('inspect', 'few.safetensors', 'hero.safetensors', '--norms', '--no-hashes');
  expect(stdout).toContain('in the second file alone: ');
  expect(stdout).not.toContain('Infinity');
});

test('NaN is found where the numbers are read, for hashes or for norms', async () => {
  const warning = '1 module with NaN or infinity, which spoils every picture: lora_unet_out_2.';
  for (const options of [[], ['--norms'], ['--norms', '--no-hashes']])
    expect((await run('inspect', 'broken.safetensors', ...options)).stdout).toContain(warning);
  expect((await run('inspect', 'broken.safetensors', '--no-hashes')).stdout).not.toContain('NaN');
});

test('other files are told for what they are', async () => {
  const checkpoint = await run('inspect', 'base.safetensors');
  expect(checkpoint.stdout).toMatchSnapshot();
  expect(JSON.parse((await run('inspect', 'base.safetensors', '--json')).stdout)).toMatchObject({
    kind: 'checkpoint',
    architecture: { unet: { depths: [0, 2, 10] } },
  });
  const weighted = await run('inspect', 'hero.lbw.safetensors');
  expect(weighted.exitCode).toBe(0);
  expect(weighted.stdout).toContain('a model with block weights as the Inspire pack stores it, not a LoRA');
});

test('what cannot be read, or makes no sense together, is said', async () => {
  expect(await run('inspect', 'nowhere.safetensors')).toMatchObject({
    exitCode: 2,
    stdout: '',
    stderr: expect.stringContaining('error: There is no file "nowhere.safetensors".'),
  });
  expect((await run('inspect', 'heor.safetensors')).stderr).toContain('hint: there is "hero.safetensors"');
  expect(await run('inspect', 'note.txt')).toMatchObject({ exitCode: 1, stdout: '' });
  expect(await run('inspect', '.')).toMatchObject({
    exitCode: 2,
    stdout: '',
    stderr: expect.stringContaining('error: "." is a folder.'),
  });
  expect(await run('inspect')).toMatchObject({ exitCode: 2 });
  expect(await run('inspect', 'base.safetensors', 'hero.safetensors')).toMatchObject({
    exitCode: 2,
    stderr: 'error: "base.safetensors" is no LoRA, so there is nothing to compare.\nhint: name the LoRA first',
  });
  expect(await run('inspect', 'hero.safetensors', 'hero.lbw.safetensors')).toMatchObject({ exitCode: 2 });
});
