// lorac merge as users run it: a process, what it prints, and the file that it leaves, also when it is killed.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { copyFile, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { SafetensorsFile } from '../../src/runtime/safetensors/file.ts';
import { writeSafetensors } from '../../src/runtime/safetensors/writer.ts';
import { deltas, metadataOf } from '../runtime/stages/lab.ts';
import { OUT01, writeLora } from '../runtime/stages/lora-files.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');

let folder: string;
const at = (name: string) => join(folder, name);

// The first call bundles what has changed.
beforeAll(async () => void (await run('--version')), 120_000);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-merge-'));
  await writeLora(at('hero.safetensors'));
  await writeLora(at('style.safetensors'), [{ name: OUT01, kernel: 3, rank: 1, strength: 2 }]);
});
afterEach(async () => await rm(folder, { recursive: true }));

const env = { NO_COLOR: '1', FORCE_COLOR: undefined, LORAC_PYTHON: '/nonexistent/python' };

async function run(...args: string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [lorac, ...args], {
    cwd: folder ?? '.',
    env,
    reject: false,
    stdin: 'ignore',
  });
  return { exitCode, stdout, stderr };
}

test('two files become one that says what it is', async () => {
  const { exitCode, stdout, stderr } = await run(
    'merge',
    'hero.safetensors:0.8',
    'style.safetensors',
    '-o',
    'both.safetensors',
  );
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout.replace(/[\d.]+ kB/, '# kB')).toBe(`merged   hero.safetensors × 0.8, style.safetensors
modules  1 sum, 4 of one file alone
ranks    4 to 5
saved    both.safetensors, # kB`);
  expect((await metadataOf(at('both.safetensors'))).get('ss_output_name')).toBe('both');
  const [hero, style, both] = await Promise.all(
    ['hero', 'style', 'both'].map((name) => deltas(at(`${name}.safetensors`))),
  );
  const [a, b, sum] = [hero, style, both].map((all) => all?.get(OUT01)?.data ?? []);
  for (const [i, value] of (sum ?? []).entries()) expect(value).toBeCloseTo(0.8 * (a?.[i] ?? 0) + (b?.[i] ?? 0), 2);
  expect(both?.size).toBe(5);
});

test('a weight of 1 need not be said, a negative one takes away, and a folder gets a file of its own name', async () => {
  expect(await run('merge', 'style.safetensors', 'style.safetensors:-.5', '-o', '.')).toMatchObject({ exitCode: 0 });
  const [before, after] = await Promise.all(['style', 'merged'].map((name) => deltas(at(`${name}.safetensors`))));
  const [old, now] = [before?.get(OUT01)?.data ?? [], after?.get(OUT01)?.data ?? []];
  for (const [i, value] of [...now].entries()) expect(value).toBeCloseTo(0.5 * (old[i] ?? Number.NaN), 10);
});

test('a colon in a path is no weight', async () => {
  await copyFile(at('style.safetensors'), at('C:2'));
  await copyFile(at('style.safetensors'), at('a:b.safetensors'));
  const { exitCode, stdout } = await run('merge', 'C:2', 'a:b.safetensors', 'C:2:3', '-o', 'sum.safetensors');
  expect(exitCode).toBe(0);
  expect(stdout).toContain('merged   C:2, a:b.safetensors, C:2 × 3\n');
});

test.each([
  [
    ['hero.safetensors', '0.8'],
    'There is no file "0.8".\nhint: a weight follows its file after a colon: hero.safetensors:0.5',
  ],
  [['nothing.safetensors'], 'There is no file "nothing.safetensors".'],
  [['nothing.safetensors:0.5'], 'There is no file "nothing.safetensors".'],
  [['C:\\loras\\hero.safetensors'], 'There is no file "C:\\loras\\hero.safetensors".'],
  [
    ['hero.safetensors:half'],
    '"half" in "hero.safetensors:half" is no weight.\nhint: a weight is a number, as in hero.safetensors:0.5',
  ],
  [
    ['hero.safetensors:1e999'],
    '"1e999" in "hero.safetensors:1e999" is no weight.\nhint: a weight is a number, as in hero.safetensors:0.5',
  ],
  [['hero.safetensors:0'], 'The weight of "hero.safetensors" is 0, which adds nothing.\nhint: leave the file out'],
  [['hero.safetensors', '-o', 'no/such/folder.safetensors'], 'There is no folder "no/such".'],
])('%j is not understood', async (args, stderr) => {
  const output = args.includes('-o') ? [] : ['-o', 'out.safetensors'];
  expect(await run('merge', ...args, ...output)).toEqual({ exitCode: 2, stdout: '', stderr: `error: ${stderr}` });
  expect((await readdir(folder)).sort()).toEqual(['hero.safetensors', 'style.safetensors']);
});

test('where to put the sum has to be said', async () => {
  const { exitCode, stderr } = await run('merge', 'hero.safetensors');
  expect(exitCode).toBe(2);
  expect(stderr).toContain("required option '-o, --output <FILE>' not specified");
});

test('neither an input nor a file that is there is written over unasked', async () => {
  await symlink('hero.safetensors', at('link.safetensors'));
  for (const name of ['hero.safetensors', 'link.safetensors']) {
    const { exitCode, stderr } = await run('merge', 'style.safetensors', 'hero.safetensors', '-o', name, '--overwrite');
    expect(exitCode).toBe(2);
    expect(stderr).toContain('is one of the files that are read');
  }
  await writeFile(at('mine.safetensors'), 'mine');
  const args = ['merge', 'style.safetensors', '-o', 'mine.safetensors'];
  expect((await run(...args)).stderr).toContain('"mine.safetensors" exists already.');
  expect(await readFile(at('mine.safetensors'), 'utf8')).toBe('mine');
  expect(await run(...args, '--overwrite')).toMatchObject({ exitCode: 0 });
});

test('what cannot be merged is told, module by module, and leaves nothing behind', async () => {
  await writeLora(at('other.safetensors'), [{ name: OUT01, kernel: 3, out: 7 }]);
  const { exitCode, stdout, stderr } = await run(
    'merge',
    'hero.safetensors',
    'other.safetensors',
    '-o',
    'out.safetensors',
  );
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
  expect(
    stderr,
  ).toBe(`error: "${OUT01}" adapts a weight of 6 × 45 in "hero.safetensors" and of 7 × 45 in "other.safetensors".
hint: LoRAs of different shapes are for different models, whatever else they have in common.`);
  expect(await readdir(folder)).not.toContain('out.safetensors');
});

test('files of any trainer are merged, in the names of any program', async () => {
  await writeLora(at('peft.safetensors'), [], { metadata: undefined, extra: [] });
  await using style = await SafetensorsFile.open(at('style.safetensors'));
  const path = 'unet.up_blocks.0.resnets.1.conv1';
  await writeSafetensors({
    path: at('peft.safetensors'),
    tensors: ['up', 'down'].map((role) => {
      const tensor = `${OUT01}.lora_${role}.weight`;
      const { dtype, shape } = style.tensor(tensor);
      const name = `${path}.lora_${role === 'up' ? 'B' : 'A'}.weight`;
      return { name, dtype, shape, source: { kind: 'copy', file: style, tensor } };
    }),
    metadata: undefined,
    hashes: false,
  });
  const args = ['merge', 'hero.safetensors', 'peft.safetensors', '--precision', 'fp32'];
  expect(await run(...args, '-o', 'a.safetensors')).toMatchObject({ exitCode: 0 });
  expect(await run(...args, '-o', 'b.safetensors', '--format', 'diffusers')).toMatchObject({ exitCode: 0 });
  await using a = await SafetensorsFile.open(at('a.safetensors'));
  expect(a.tensor(`${OUT01}.lora_up.weight`)).toMatchObject({ shape: [6, 5, 1, 1], dtype: 'F32' });
  await using b = await SafetensorsFile.open(at('b.safetensors'));
  expect(b.tensor(`${path}.lora_B.weight`).shape).toEqual([6, 5, 1, 1]);
  expect([...b.header.tensors.keys()].filter((name) => name.startsWith('lora_'))).toEqual([]);
  // Merging what was written in those names gives the same again.
  expect(await run('merge', 'b.safetensors', '-o', 'c.safetensors', '--precision', 'fp32')).toMatchObject({
    exitCode: 0,
  });
  const [first, second] = await Promise.all(['a', 'c'].map((name) => deltas(at(`${name}.safetensors`))));
  for (const [name, { data }] of first ?? []) {
    const other = second?.get(name)?.data ?? [];
    for (const [i, value] of data.entries()) expect(other[i]).toBeCloseTo(value, 6);
  }
});

/** Twenty modules of zeros: long enough to write to be stopped on the way. */
async function writeLarge(): Promise<void> {
  const blocks = Array.from({ length: 10 }, (_, index) => `lora_unet_middle_block_1_transformer_blocks_${index}_attn1`);
  const modules = blocks.flatMap((block) => [`${block}_to_q`, `${block}_to_k`]);
  await writeSafetensors({
    path: at('large.safetensors'),
    tensors: modules.flatMap((name) =>
      (['up', 'down'] as const).map((role) => ({
        name: `${name}.lora_${role}.weight`,
        dtype: 'F16' as const,
        shape: role === 'up' ? [1280, 320] : [320, 1280],
        source: { kind: 'bytes' as const, bytes: new Uint8Array(1280 * 320 * 2) },
      })),
    ),
    metadata: undefined,
    hashes: false,
  });
}

const large = ['merge', 'large.safetensors', 'large.safetensors:0.3', '--overwrite', '-o'];

/** Sends a signal once so many bytes are written, and gives how the process ended. */
async function stopped(output: string, signal: NodeJS.Signals, bytes: number): Promise<unknown[]> {
  const options = { cwd: folder, env: { ...process.env, ...env }, stdio: 'ignore' as const };
  const child = spawn(process.execPath, [lorac, ...large, output], options);
  const closed = once(child, 'close');
  const begun = (): boolean =>
    readdirSync(folder).some(
      (name) => name.endsWith('.tmp') && (statSync(at(name), { throwIfNoEntry: false })?.size ?? 0) > bytes,
    );
  while (!begun() && child.exitCode === null) await sleep(1);
  child.kill(signal);
  return closed;
}

test('killed while it writes, it leaves what bore the name before, and nothing under a new name', async () => {
  await writeLarge();
  await writeFile(at('old.safetensors'), 'before');
  for (const [round, output] of ['old.safetensors', 'new.safetensors', 'old.safetensors'].entries()) {
    expect(await stopped(output, 'SIGKILL', round * 2 ** 23)).toEqual([null, 'SIGKILL']);
    expect(await readFile(at('old.safetensors'), 'utf8')).toBe('before');
    expect(await readdir(folder)).not.toContain('new.safetensors');
    for (const name of await readdir(folder)) if (name.endsWith('.tmp')) await rm(at(name));
  }
  expect(await run(...large, 'old.safetensors')).toMatchObject({ exitCode: 0 });
});

test('Ctrl-C ends it with nothing left behind', async () => {
  await writeLarge();
  const before = await readdir(folder);
  expect(await stopped('new.safetensors', 'SIGINT', 0)).toEqual([130, null]);
  expect(await readdir(folder)).toEqual(before);
});
