// lorac analyze with the real worker: a LoRA that is strong in one block is found to be, and what was rendered before a
// Ctrl-C is not rendered again.

import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import type { AnalyzeReport } from '../../src/runtime/stages/analyze.ts';

const root = resolve(import.meta.dirname, '../..');
const pictures = ['--prompt', 'a red circle', '--size', '64x64', '--steps', '2', '--mixed-precision', 'fp32'];
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-analyze-'));
  for (const name of ['base', 'character', 'style']) {
    await cp(join(inject('inputs'), `${name}.safetensors`), join(folder, `${name}.safetensors`));
  }
  const few = ['--keep', 'IN04,MID01,OUT01', '--text-encoders', 'drop', '-o', 'few.safetensors'];
  expect(await lorac(['chop', 'character.safetensors', ...few])).toMatchObject({ exitCode: 0 });
});
afterAll(async () => await rm(folder, { recursive: true }));

function start(args: readonly string[]) {
  const env = { NO_COLOR: '1', LORAC_STORE: join(folder, 'store'), LORAC_REPORTER: undefined };
  return execa(process.execPath, [join(root, 'dist', 'cli.js'), ...args], {
    cwd: folder,
    env,
    reject: false,
    stdin: 'ignore',
  });
}

async function lorac(args: readonly string[]) {
  const { exitCode, stdout, stderr } = await start(args);
  return { exitCode, stdout, stderr };
}

test('an ablation that Ctrl-C stopped goes on where it was, and puts the strong block first', async () => {
  const args = ['analyze', 'few.safetensors', 'base.safetensors', ...pictures];
  const first = start([...args, '--reporter', 'json']);
  let made = 0;
  first.stdout?.on('data', (chunk: Buffer) => {
    made += chunk.toString().split('"type":"artifact"').length - 1;
    if (made >= 2) first.kill('SIGINT');
  });
  expect((await first).exitCode).toBe(130);
  const { exitCode, stdout, stderr } = await lorac([...args, '--json', '--reporter', 'plain']);
  expect(exitCode).toBe(0);
  expect(stderr).toMatch(/1 prompt × 9 pictures \(.*; [2-7] are there already/);
  const report = JSON.parse(stdout) as AnalyzeReport;
  expect(report.ablation?.ranking[0]).toBe('OUT01');
  expect(report.proposal?.keep[0]).toBe('OUT01');
  expect(report.proposal?.share).toBeGreaterThanOrEqual(0.8);
  const strongest = report.blocks.toSorted((a, b) => (b.ratio ?? 0) - (a.ratio ?? 0))[0];
  expect(strongest?.block).toBe('OUT01');
  expect(JSON.parse(await readFile(join(folder, 'few-analysis', 'report.json'), 'utf8'))).toEqual(report);
  const grid = await readFile(join(folder, 'few-analysis', 'grid.png'));
  expect(grid.subarray(1, 4).toString()).toBe('PNG');
}, 240_000);

test('a second time nothing is computed, and the table and the command to type are printed', async () => {
  const { exitCode, stdout } = await lorac(['analyze', 'few.safetensors', 'base.safetensors', ...pictures]);
  expect(exitCode).toBe(0);
  expect(stdout).toContain('Nothing to do: 4 stages fresh');
  expect(stdout).toMatch(/^OUT01 .* 1$/m);
  const [, command = ''] = /^ {2}lorac (chop few\.safetensors .+)$/m.exec(stdout) ?? [];
  const chopped = await lorac([...command.split(' '), '-o', 'kept.safetensors']);
  expect(chopped).toMatchObject({ exitCode: 0, stderr: '' });
  expect(chopped.stdout).toMatch(/kept {5}.*OUT01/);
});

test('numbers alone replace pictures only when they are told to, and take the grid with them', async () => {
  const args = ['analyze', 'few.safetensors', 'base.safetensors'];
  const refused = await lorac(args);
  expect(refused.exitCode).toBe(2);
  expect(refused.stderr).toContain('tells what pictures showed');
  expect(await lorac([...args, '--overwrite'])).toMatchObject({ exitCode: 0 });
  expect(await readdir(join(folder, 'few-analysis'))).toEqual(['report.json']);
});

test('a LoRA in the names of another trainer is analyzed in numbers', async () => {
  const { exitCode, stdout } = await lorac(['analyze', 'style.safetensors', 'base.safetensors', '--json']);
  expect(exitCode).toBe(0);
  const report = JSON.parse(stdout) as AnalyzeReport;
  const strongest = report.blocks.toSorted((a, b) => (b.ratio ?? 0) - (a.ratio ?? 0))[0];
  expect(strongest?.block).toBe('IN07');
  expect(report).toMatchObject({ ablation: null, proposal: null });
});

test('two files in the wrong order are told', async () => {
  const { exitCode, stderr } = await lorac(['analyze', 'base.safetensors', 'few.safetensors']);
  expect([exitCode, stderr]).toEqual([
    2,
    'error: "base.safetensors" is a checkpoint.\nhint: the LoRA comes first, then its base',
  ]);
});
