// Making a sum small again: lorac resize behind lorac merge, with the real worker.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SafetensorsFile } from '../../src/runtime/safetensors/file.ts';
import { relativeError } from '../helpers/linear-algebra.ts';
import { deltas } from '../runtime/stages/lab.ts';

const root = resolve(import.meta.dirname, '../..');
const golden = join(root, 'test/fixtures/golden/resize');
const [base, lora] = ['base', 'lora'].map((name) => join(golden, `${name}.safetensors`)) as [string, string];

let folder: string;
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-merge-'));
});
afterAll(async () => await rm(folder, { recursive: true }));

async function lorac(...args: readonly string[]) {
  const { exitCode, stderr } = await execa(process.execPath, [join(root, 'dist', 'cli.js'), ...args], {
    cwd: folder,
    env: { NO_COLOR: '1', LORAC_STORE: at('store') },
    reject: false,
    stdin: 'ignore',
  });
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
}

/** The only file of a folder. */
async function only(name: string): Promise<string> {
  const [file = ''] = await readdir(at(name));
  return join(at(name), file);
}

async function ranksOf(path: string): Promise<ReadonlyMap<string, number>> {
  await using file = await SafetensorsFile.open(path);
  const downs = [...file.header.tensors.values()].filter(({ name }) => name.endsWith('.lora_down.weight'));
  return new Map(downs.map(({ name, shape }) => [name, shape[0] ?? 0]));
}

test('a resized sum has the directions that there truly are, not as many as were added up', async () => {
  await lorac('merge', `${lora}:0.75`, `${lora}:0.5`, `${lora}:-0.25`, '-o', 'sum.safetensors', '--precision', 'fp32');
  await lorac('resize', base, 'sum.safetensors', '-r', 'spn_lora=1,thr=-3', '-o', 'of-sum', '-t', '32');
  await lorac('resize', base, lora, '-r', 'spn_lora=1,thr=-3', '-o', 'of-one', '-t', '32');
  const [sum, ofSum, ofOne] = [at('sum.safetensors'), await only('of-sum'), await only('of-one')];
  const [original, added, left, alone] = await Promise.all([lora, sum, ofSum, ofOne].map(ranksOf));
  expect(left?.size).toBeGreaterThan(3);
  for (const [name, rank] of left ?? []) {
    expect(added?.get(name)).toBeGreaterThan(rank);
    expect(rank).toBeLessThanOrEqual(original?.get(name) ?? 0);
  }
  expect(left).toEqual(alone);
  const [a, b] = await Promise.all([ofSum, ofOne].map(deltas));
  for (const [name, delta] of a ?? []) {
    const other = b?.get(name);
    if (other !== undefined) expect(relativeError(delta, other)).toBeLessThan(1e-5);
  }
});
