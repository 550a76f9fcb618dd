// lorac resize with the real worker, on the golden data of the tool that it takes the place of.

import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SafetensorsFile } from '../../src/runtime/safetensors/file.ts';

const root = resolve(import.meta.dirname, '../..');
const golden = join(root, 'test/fixtures/golden/resize');

interface Expected {
  readonly recipe: string;
  readonly output_name: string;
  readonly ranks: { readonly [module: string]: number };
}
let expected: readonly Expected[];
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-resize-'));
  expected = JSON.parse(await readFile(join(golden, 'expected.json'), 'utf8'));
});
afterAll(async () => await rm(folder, { recursive: true }));

async function lorac(args: readonly string[], env: Record<string, string> = {}) {
  return execa(process.execPath, [join(root, 'dist', 'cli.js'), ...args], {
    cwd: folder,
    env: { NO_COLOR: '1', LORAC_STORE: join(folder, 'store'), ...env },
    reject: false,
    stdin: 'ignore',
  });
}

const files = [join(golden, 'base.safetensors'), join(golden, 'lora.safetensors')];
const noPython = { LORAC_PYTHON: '/nonexistent/python' };

async function ranksOf(path: string): Promise<Record<string, number>> {
  await using file = await SafetensorsFile.open(path);
  const downs = [...file.header.tensors.values()].filter(({ name }) => name.endsWith('.lora_down.weight'));
  return Object.fromEntries(downs.map(({ name, shape }) => [name.replace('.lora_down.weight', ''), shape[0] ?? 0]));
}

test('all golden recipes at once give files of the same names and ranks', async () => {
  const recipes = expected.map(({ recipe }) => recipe).join(':');
  const { exitCode, stdout } = await lorac(['resize', ...files, '-r', recipes, '-o', 'out', '--reporter', 'json']);
  expect(exitCode).toBe(0);
  const events = stdout.split('\n').map((line) => JSON.parse(line));
  expect(events.filter(({ type }) => type === 'node-started').map(({ node }) => node.split(':')[1])).toEqual(
    expect.arrayContaining(['decompose', 'frobenius', 'spectral', 'projections']),
  );
  const found = await readdir(join(folder, 'out'));
  for (const { recipe, output_name, ranks } of expected) {
    if (recipe.includes('size=0.02')) continue;
    expect(found).toContain(output_name);
    expect([recipe, await ranksOf(join(folder, 'out', output_name))]).toEqual([recipe, ranks]);
  }
  // Ours fits the size, header and all, so its threshold is another.
  const fitted = found.filter((name) => name.startsWith('lora_frockpt0.8_params0.2_size0.02_th-'));
  expect(fitted).toHaveLength(1);
  expect((await stat(join(folder, 'out', fitted[0] ?? ''))).size).toBeLessThanOrEqual(0.02 * 2 ** 20);
});

test('another threshold, and the same once more, start no Python', async () => {
  const recipes = 'fro_ckpt=1,thr=-2:fro_ckpt=1,size=0.05';
  const first = await lorac(['resize', ...files, '-r', recipes, '-o', 'out', '-t', 'bf16'], noPython);
  expect([first.exitCode, first.stderr]).toEqual([0, '']);
  await using file = await SafetensorsFile.open(join(folder, 'out', 'lora_frockpt1_th-2.safetensors'));
  expect(new Set([...file.header.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(['F32', 'BF16']));
  const second = await lorac(['resize', ...files, '-r', recipes, '-o', 'out', '-t', 'bf16'], noPython);
  expect(second.stdout).toMatch(/Nothing to do: 4 stages fresh/);
});

test('a file that somebody else put there stays, unless it may be replaced', async () => {
  const path = join(folder, 'out', 'lora_frockpt1_th-1.5.safetensors');
  await writeFile(path, 'mine');
  const args = ['resize', ...files, '-r', 'fro_ckpt=1,thr=-1.5', '-o', 'out'];
  const refused = await lorac(args, noPython);
  expect(refused.exitCode).toBe(1);
  expect(refused.stdout).toContain('exists already, and lorac did not make it');
  expect(refused.stdout).toContain('--overwrite');
  expect(await readFile(path, 'utf8')).toBe('mine');
  expect((await lorac([...args, '--overwrite'], noPython)).exitCode).toBe(0);
  expect(Object.keys(await ranksOf(path)).length).toBeGreaterThan(0);
});

test('what is not there is told before anything starts', async () => {
  const { exitCode, stderr } = await lorac(
    ['resize', 'pony.safetensors', 'a.safetensors:0.5,b.safetensors:0.5'],
    noPython,
  );
  expect(exitCode).toBe(2);
  expect(stderr).toContain('error: There is no file "');
});
