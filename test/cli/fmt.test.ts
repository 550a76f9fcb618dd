// lorac fmt as users and editors run it.

import { chmodSync, lstatSync, readFileSync, statSync, symlinkSync, utimesSync } from 'node:fs';
import { resolve } from 'node:path';
import { execa } from 'execa';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');

async function run(cwd: string, args: readonly string[], input = '') {
  const env = { NO_COLOR: '1', FORCE_COLOR: undefined };
  const options = { cwd, env, input, reject: false, stripFinalNewline: false } as const;
  const { exitCode, stdout, stderr } = await execa(process.execPath, [lorac, 'fmt', ...args], options);
  return { exitCode, stdout, stderr };
}

beforeAll(async () => {
  // The first call bundles what has changed.
  await run('.', ['--help']);
}, 120_000);

test('all programs of a folder are formatted, and what is good already is not touched', async () => {
  using folder = temporaryFolder();
  folder.write({ 'a.lora': 'let a=1\n', 'b.lora': 'let b = 2\n', 'c.txt': 'let c=3\n' });
  utimesSync(folder.at('b.lora'), 1000, 1000);
  expect(await run(folder.path, [])).toEqual({
    exitCode: 0,
    stdout: 'a.lora is formatted.\nb.lora is as it should be.\n',
    stderr: '',
  });
  expect(readFileSync(folder.at('a.lora'), 'utf8')).toBe('let a = 1\n');
  expect(readFileSync(folder.at('c.txt'), 'utf8')).toBe('let c=3\n');
  expect(statSync(folder.at('b.lora')).mtimeMs).toBe(1_000_000);
});

test('a link still points where it did, and a file keeps its rights, its byte order mark and its line ends', async () => {
  using folder = temporaryFolder();
  folder.write({ 'real.lora': '\ufefflet a=1\r\nlet b=2\r\n' });
  chmodSync(folder.at('real.lora'), 0o640);
  symlinkSync('real.lora', folder.at('link.lora'));
  expect((await run(folder.path, ['link.lora'])).stdout).toBe('link.lora is formatted.\n');
  expect(lstatSync(folder.at('link.lora')).isSymbolicLink()).toBe(true);
  expect(readFileSync(folder.at('real.lora'), 'utf8')).toBe('\ufefflet a = 1\r\nlet b = 2\r\n');
  if (process.platform !== 'win32') expect(statSync(folder.at('real.lora')).mode & 0o777).toBe(0o640);
});

test('--check shows what would change, changes nothing and exits with 1', async () => {
  using folder = temporaryFolder();
  const text = 'let a = 1\nlet b = 2\nlet c = 3\nlet d=4\nlet e = 5\n';
  folder.write({ 'a.lora': text, 'b.lora': 'let b = 2\n' });
  expect(await run(folder.path, ['--check', 'a.lora', 'b.lora'])).toEqual({
    exitCode: 1,
    stdout: 'a.lora would change:\n@@ -2 +2 @@\n let b = 2\n let c = 3\n-let d=4\n+let d = 4\n let e = 5\n',
    stderr: '',
  });
  expect(readFileSync(folder.at('a.lora'), 'utf8')).toBe(text);
  expect(await run(folder.path, ['--check', 'b.lora'])).toEqual({ exitCode: 0, stdout: '', stderr: '' });
});

test('a program from stdin goes to stdout, and one in a file too where --stdout says so', async () => {
  using folder = temporaryFolder();
  folder.write({ 'a.lora': 'let a=1\n' });
  expect(await run(folder.path, ['-'], 'let  a=1')).toEqual({ exitCode: 0, stdout: 'let a = 1\n', stderr: '' });
  expect(await run(folder.path, ['--stdout', 'a.lora'])).toEqual({ exitCode: 0, stdout: 'let a = 1\n', stderr: '' });
  expect(await run(folder.path, ['--check', '-'], 'let  a=1')).toMatchObject({ exitCode: 1 });
  expect(readFileSync(folder.at('a.lora'), 'utf8')).toBe('let a=1\n');
});

test('what cannot be read is named, and the rest is formatted', async () => {
  using folder = temporaryFolder();
  folder.write({ 'a.lora': 'let a=1\nlet b = [1 2]\nlet c = = 3\n' });
  expect(await run(folder.path, ['a.lora'])).toEqual({
    exitCode: 0,
    stdout: 'a.lora is formatted.\n',
    stderr:
      'a.lora:2: this cannot be read, and 1 place after it, and stays as it is; lorac check says what is wrong.\n',
  });
  expect(readFileSync(folder.at('a.lora'), 'utf8')).toBe('let a = 1\nlet b = [1 2]\nlet c = = 3\n');
});

test('a file that may not be written is named, with the reason', async () => {
  using folder = temporaryFolder();
  expect(await run(folder.path, ['none.lora'])).toMatchObject({ exitCode: 2, stdout: '' });
  folder.write({ 'bytes.lora': new Uint8Array([0x6c, 0xff]) });
  expect((await run(folder.path, ['bytes.lora'])).stderr).toContain('bytes.lora is not text');
});
