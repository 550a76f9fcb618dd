// lorac explain, and lorac check --fix.

import { readFileSync, statSync, utimesSync } from 'node:fs';
import { resolve } from 'node:path';
import { execa } from 'execa';
import { beforeAll, expect, test } from 'vitest';
import { explainedCodes } from '../../src/parser/explanations/explanations.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');

async function run(cwd: string, ...args: readonly string[]) {
  const env = { NO_COLOR: '1', FORCE_COLOR: undefined };
  const { exitCode, stdout, stderr } = await execa(process.execPath, [lorac, ...args], { cwd, env, reject: false });
  return { exitCode, stdout, stderr };
}

beforeAll(async () => {
  // The first call bundles what has changed.
  await run('.', '--help');
}, 120_000);

test('a code is explained, with what is said about an example', async () => {
  const { exitCode, stdout } = await run('.', 'explain', '[thr-and-size]');
  expect(exitCode).toBe(0);
  expect(stdout).toMatchInlineSnapshot(`
    "thr-and-size

    thr says how strong a direction has to be to stay, size how large the file may become. Only one can
    decide.

    For example:

      resize small { from = style  thr = -3.5  size = 20 }

      hero.lora:1:49 error: "thr" and "size" both say how much to keep. [thr-and-size]
        1 | resize small { from = style  thr = -3.5  size = 20 }
          |                                                 ^^
        1 | resize small { from = style  thr = -3.5  size = 20 }
          |                                    ---- "thr" is written here
          = hint: Keep one of them.

    Right is:

      resize small { from = style  size = 20 }"
  `);
});

test('all codes are listed, with a line each', async () => {
  const { stdout } = await run('.', 'explain');
  expect(stdout.split('\n').map((line) => line.split(' ')[0])).toEqual(explainedCodes);
});

test('a code that there is not is answered with the nearest', async () => {
  expect(await run('.', 'explain', 'unclosd')).toEqual({
    exitCode: 2,
    stdout: '',
    stderr: 'error: There is no diagnostic "unclosd".\nhint: there is one with a similar name: unclosed',
  });
});

test('--fix mends the file, says what it did, and judges the result', async () => {
  using folder = temporaryFolder();
  folder.write({
    'a.lora':
      'lora a { file = "a.safetensors" }\nresize b { from = a  spn_lora = 1  thr = -3,55; }\nchop c { form = d }\n',
  });
  const { exitCode, stdout, stderr } = await run(folder.path, 'check', '--fix', '--no-files', 'a.lora');
  expect(exitCode).toBe(2);
  expect(stdout).toBe(`a.lora:1: "file" is now "path" [unknown-attribute]
a.lora:2: "," is now "." [unexpected]
a.lora:2: ";" is taken out [unexpected-character]
a.lora:3: "form" is now "from" [unknown-attribute]`);
  expect(stderr).toContain('Nothing is called "d"');
  expect(readFileSync(folder.at('a.lora'), 'utf8')).toBe(
    'lora a { path = "a.safetensors" }\nresize b { from = a  spn_lora = 1  thr = -3.55 }\nchop c { from = d }\n',
  );
});

test('--fix does not touch a file that needs none', async () => {
  using folder = temporaryFolder();
  folder.write({ 'a.lora': 'lora a { path = "a.safetensors" }\n' });
  utimesSync(folder.at('a.lora'), 1000, 1000);
  const { stdout } = await run(folder.path, 'check', '--fix', '--no-files', '--format', 'json', 'a.lora');
  expect(JSON.parse(stdout)).toEqual({ file: 'a.lora', ok: true, fixed: [], diagnostics: [] });
  expect(statSync(folder.at('a.lora')).mtimeMs).toBe(1_000_000);
});
