// lorac import and lorac export as users run them: a file, a pipe, and where the program goes.

import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pngOf } from '../helpers/pictures.ts';
import { type TemporaryFolder, temporaryFolder } from '../helpers/temporary-folder.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');
const guide = resolve(import.meta.dirname, '../fixtures/foreign/guide.sh');

let folder: TemporaryFolder;

beforeAll(async () => {
  folder = temporaryFolder();
  folder.write({
    'pics/5_fox/a.png': pngOf({ width: 64, height: 64, shade: 1 }),
    'pics/5_fox/b.png': pngOf({ width: 64, height: 64, shade: 2 }),
    'taken.lora': 'mine',
    'latin1.sh': Buffer.from([0x2d, 0x2d, 0xe9]),
    'start.sh':
      'python sdxl_train_network.py --train_data_dir pics --resolution 1024 --max_train_epochs 3 --train_batch_size 2 --vae v.safetensors',
  });
  // The first call bundles what has changed.
  await run(['--version']);
}, 120_000);

afterAll(() => folder[Symbol.dispose]());

async function run(args: readonly string[], input?: string) {
  const env = { NO_COLOR: '1', FORCE_COLOR: undefined, LORAC_STORE: undefined };
  const { exitCode, stdout, stderr } = await execa(process.execPath, [lorac, ...args], {
    cwd: folder.path,
    env,
    reject: false,
    ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
  });
  return { exitCode, stdout, stderr };
}

test('what is piped in and what lies in a file become the same program, on stdout', async () => {
  const [fromFile, fromPipe] = [await run(['import', guide]), await run(['import'], await readFile(guide, 'utf8'))];
  expect(fromFile).toMatchObject({ exitCode: 0, stderr: '' });
  expect(fromPipe).toEqual(fromFile);
  expect(fromFile.stdout).toContain('save "/output_dir/yifftoolkit-schnell.safetensors" { from = tiny }');
});

test('with -o the program is written, never over a file that is there unless that is asked for', async () => {
  const refused = await run(['import', guide, '-o', 'taken.lora']);
  expect(refused).toMatchObject({ exitCode: 2, stdout: '' });
  expect(refused.stderr).toContain('There is a file taken.lora already.');
  expect(await readFile(join(folder.path, 'taken.lora'), 'utf8')).toBe('mine');
  const written = await run(['import', guide, '-o', 'new.lora']);
  expect(written).toMatchObject({ exitCode: 0, stdout: '', stderr: 'wrote new.lora · next: lorac check new.lora' });
  expect(await run(['check', 'new.lora', '--no-files'])).toMatchObject({ exitCode: 0 });
  await writeFile(join(folder.path, 'old.lora'), 'mine');
  expect(await run(['import', guide, '-o', 'old.lora', '--overwrite'])).toMatchObject({ exitCode: 0 });
});

test('images that lie there are counted, and what is lost is told', async () => {
  const { exitCode, stdout, stderr } = await run(['import', 'start.sh']);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^ {2}steps += 15 +# 3 epochs of 5 steps each$/m);
  expect(stderr).toContain('note: vae: Images are encoded with the VAE of the checkpoint.');
  expect(stderr).toContain('1 setting could not be carried over: see the end of the program');
});

test.each([
  ['a file that is not there', 'nowhere.sh', 'There is no file nowhere.sh.'],
  ['a folder', '.', '. is a folder.'],
  ['bytes that are no text', 'latin1.sh', 'latin1.sh is not text'],
])('%s is refused in a sentence', async (_, file, message) => {
  const { exitCode, stderr } = await run(['import', file]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain(message);
});

test('export prints a command with whole paths, and says which names there are', async () => {
  await writeFile(
    join(folder.path, 'two.lora'),
    `checkpoint pony { path = "m/pony.safetensors" }
    dataset hero { images = "pics"  folders = kohya }
    train raw { base = pony  data = hero }
    train other { base = pony  data = hero  steps = 9 }`,
  );
  const one = await run(['export', '--sd-scripts', 'two.lora', 'other']);
  expect(one).toMatchObject({ exitCode: 0, stderr: '' });
  expect(one.stdout).toContain(`--pretrained_model_name_or_path=${folder.at('m/pony.safetensors')} \\\n`);
  expect(one.stdout).toContain('--max_train_steps=9');
  const none = await run(['export', '--sd-scripts', 'two.lora']);
  expect(none).toMatchObject({ exitCode: 2, stdout: '' });
  expect(none.stderr).toContain('name one of raw, other');
  expect((await run(['export', '--sd-scripts', 'two.lora', 'othr'])).stderr).toContain('perhaps other');
  expect((await run(['export', 'two.lora'])).stderr).toContain('lorac export --sd-scripts hero.lora');
});
