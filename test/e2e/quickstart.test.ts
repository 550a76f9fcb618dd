// The quickstart as it stands, on the base that draws: in 80 steps it learns a character that the base has never seen,
// and what the base knows by itself is still there. Told from the pictures by their colours (lora_worker.toy.judge).

import { cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';

interface Seen {
  readonly background: string;
  readonly middle: string;
  /** How far the middle is from the colour of the character's skin. */
  readonly off_skin: number;
}

const root = resolve(import.meta.dirname, '../..');
const cli = join(root, 'dist', 'cli.js');
const learned = 80;

let home: string;
let folder: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'lorac-quickstart-'));
  folder = join(home, 'quickstart');
  await mkdir(folder);
  for (const name of ['quickstart.lora', 'sample-prompts.txt']) {
    await cp(join(root, 'examples/quickstart', name), join(folder, name));
  }
  await cp(join(root, 'examples/toy-sdxl'), join(home, 'toy-sdxl'), { recursive: true });
  await cp(join(inject('inputs'), 'images'), join(folder, 'images'), { recursive: true });
  const { exitCode, stderr } = await execa(process.execPath, [cli, 'build', 'quickstart.lora', '--reporter', 'json'], {
    cwd: folder,
    env: { NO_COLOR: '1' },
    reject: false,
    stdin: 'ignore',
    maxBuffer: 64_000_000,
  });
  expect(exitCode, stderr).toBe(0);
}, 400_000);
afterAll(async () => await rm(home, { recursive: true, force: true }));

test('what is predicted of pictures that were not learned from gets better', async () => {
  const lines = (await readFile(join(folder, '.lorac/runs/raw/metrics.jsonl'), 'utf8')).trim().split('\n');
  const losses = lines.flatMap((line) => JSON.parse(line).held_out_loss ?? []);
  expect(losses).toHaveLength(4);
  expect(losses.at(-1)).toBeLessThan(0.95 * losses[0]);
});

test('the pictures show the character at the end, and something else before the first step', async () => {
  for (const prompt of [0, 1]) {
    const [before, after] = [await seen(0, prompt), await seen(learned, prompt)];
    expect(before.off_skin).toBeGreaterThan(90);
    expect(after.off_skin).toBeLessThan(0.7 * before.off_skin);
  }
});

test('what the base knows by itself is drawn as before, without the character', async () => {
  for (const step of [0, learned]) {
    expect(await seen(step, 2)).toMatchObject({ middle: 'red', background: 'blue' });
  }
  expect((await seen(learned, 2)).off_skin).toBeGreaterThan(90);
});

/** What is to be seen in the sample of a step, by the number of its prompt. */
async function seen(step: number, prompt: number): Promise<Seen> {
  const name = `${String(step).padStart(6, '0')}-${String(prompt).padStart(2, '0')}.png`;
  const { stdout: python } = await execa(process.execPath, [cli, 'env', '--python']);
  const picture = join(folder, '.lorac/runs/raw/samples', name);
  const { stdout } = await execa(python, ['-m', 'lora_worker.toy.judge', picture], {
    env: { PYTHONPATH: join(root, 'python') },
  });
  return JSON.parse(stdout);
}
