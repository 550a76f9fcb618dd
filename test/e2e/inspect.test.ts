// lorac inspect after lorac resize: the norms are in the decomposition that is stored by now.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const inputs = inject('inputs');
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-inspect-'));
});
afterAll(async () => await rm(folder, { recursive: true }));

async function lorac(...args: readonly string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [join(root, 'dist', 'cli.js'), ...args], {
    cwd: folder,
    env: { NO_COLOR: '1', LORAC_STORE: join(folder, 'store') },
    reject: false,
    stdin: 'ignore',
  });
  return { exitCode, stdout, stderr };
}

interface Told {
  readonly norms: { readonly decomposed: number; readonly measured: number; readonly from: string | null };
  readonly modules: readonly { readonly name: string; readonly norm: number }[];
}

test.each(['character.safetensors', 'style.safetensors'])('of %s', async (name) => {
  const file = join(inputs, name);
  const look = async (): Promise<Told> => JSON.parse((await lorac('inspect', file, '--norms', '--json')).stdout);
  const before = await look();
  expect(before.norms).toMatchObject({ decomposed: 0, from: null });
  const resized = await lorac(
    'resize',
    join(inputs, 'base.safetensors'),
    file,
    '-r',
    'spn_lora=1,thr=-1',
    '-o',
    folder,
  );
  expect(resized).toMatchObject({ exitCode: 0 });
  const after = await look();
  expect(after.norms).toEqual({ decomposed: before.norms.measured, measured: 0, from: join(folder, 'store') });
  for (const [index, { name: module, norm }] of after.modules.entries()) {
    const measured = before.modules[index]?.norm ?? 0;
    expect([module, Math.abs(norm - measured) <= 1e-4 * measured + 1e-9]).toEqual([module, true]);
  }
  const { stdout } = await lorac('inspect', file, '--norms');
  expect(stdout).toContain(`are from the decomposition in "${join(folder, 'store')}"`);
  expect(stdout).toMatch(/^block .*‖ΔW‖ {2}first 1 {2}first 4 {2}first 16$/m);
});
