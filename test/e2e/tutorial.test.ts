// docs/tutorial.md, followed to the letter: every command in it, in its order, and every edit that it asks for, with the
// real worker. The base is the smallest there is, so trainings and pictures are made small to match; nothing else is.

import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa, parseCommandString } from 'execa';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const tutorial = readFileSync(join(root, 'docs', 'tutorial.md'), 'utf8');

type Step =
  | { readonly kind: 'command'; readonly text: string }
  /** What the program has to hold, and what is to be written in its place. */
  | { readonly kind: 'edit'; readonly from: string; readonly to: string };

/** Fences with `sh` are commands, those with `lora` edits; `text` is for reading. */
const steps = [...tutorial.matchAll(/(?:<!-- in place of: ([\s\S]*?) -->\n)?^```(\w*)\n([\s\S]*?)^```$/gm)].flatMap(
  ([, from, language, body = '']): Step[] => {
    if (language === 'sh')
      return body
        .trim()
        .split('\n')
        .map((text) => ({ kind: 'command', text }));
    return language === 'lora' ? [{ kind: 'edit', from: from ?? '', to: body.trim() }] : [];
  },
);

let home: string;
let folder: string;
const seen = { outputs: [] as { readonly text: string; readonly stdout: string }[] };

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'lorac-tutorial-'));
  // So deep that what else lies in the folder of temporary files is none of the checkpoints that are found.
  folder = join(home, 'me', 'pictures', 'loras', 'fox');
  await mkdir(join(folder, 'models'), { recursive: true });
  await cp(join(inject('inputs'), 'base.safetensors'), join(folder, 'models', 'sdxl.safetensors'));
  await cp(join(inject('inputs'), 'images'), join(folder, 'pictures'), { recursive: true });
});
afterAll(async () => await rm(home, { recursive: true, force: true }));

async function run(text: string): Promise<string> {
  const [program, ...args] = wordsOf(text);
  expect(program).toBe('lorac');
  const { exitCode, stdout, stderr } = await execa(process.execPath, [join(root, 'dist', 'cli.js'), ...args], {
    cwd: folder,
    env: {
      NO_COLOR: '1',
      HOME: home,
      XDG_CACHE_HOME: cacheOf(),
      LORAC_STORE: undefined,
      LORAC_MODELS: undefined,
      LORAC_REPORTER: undefined,
    },
    reject: false,
    stdin: 'ignore',
  });
  expect({ text, exitCode, stderr: exitCode === 0 ? '' : stderr }).toEqual({ text, exitCode: 0, stderr: '' });
  return stdout;
}

/** The worker's environment is not made again for another home. */
const cacheOf = () => process.env.XDG_CACHE_HOME ?? join(process.env.HOME ?? '', '.cache');

/** Blanks part words, and quotes hold them together. */
function wordsOf(text: string): string[] {
  const words = [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
  return text.includes('"') ? words : parseCommandString(text);
}

/** Pictures of the smallest base, in the time that a test has. */
const smaller = (text: string) =>
  text.includes('--prompt') ? `${text} --size 64x64 --steps 1 --mixed-precision fp32` : text;

/** What a program needs to be trained in seconds, put in where a user would put it. */
async function shrink(): Promise<void> {
  const path = join(folder, 'fox.lora');
  const program = await readFile(path, 'utf8');
  const small = program
    .replace(/^( {2}images += .*)$/m, '$1\n  resolution = 64x64  bucket = { min = 64  max = 128  step = 32 }')
    .replace(
      /^ {2}steps += .*$/m,
      '  steps = 40  batch_size = 1  gradient_accumulation_steps = 1  mixed_precision = fp32\n  network = locon { dim = 2  alpha = 1  conv_dim = 2  conv_alpha = 1 }',
    )
    .replace(/save_every += \d+/, 'save_every = 20')
    .replace(/every = \d+ {2}prompts/, 'every = 20  prompts');
  expect(small.split('\n').length).toBe(program.split('\n').length + 2);
  await writeFile(path, small);
  const prompts = join(folder, 'fox-prompts.txt');
  const captions = (await readFile(prompts, 'utf8')).trim().split('\n');
  expect(captions).toHaveLength(2);
  await writeFile(prompts, captions.map((caption) => `${caption} --w 64 --h 64 --s 1\n`).join(''));
}

test('the tutorial has commands and edits, and each edit says what it replaces', () => {
  expect(steps.length).toBeGreaterThan(12);
  for (const step of steps) if (step.kind === 'edit') expect(step.from).not.toBe('');
});

test('every command of the tutorial does what it is there for, in its order', async () => {
  for (const step of steps) {
    if (step.kind === 'edit') {
      const path = join(folder, 'fox.lora');
      const program = await readFile(path, 'utf8');
      expect(program).toContain(step.from);
      await writeFile(path, program.replace(step.from, step.to));
      continue;
    }
    seen.outputs.push({ text: step.text, stdout: await run(smaller(step.text)) });
    if (step.text.startsWith('lorac init')) await shrink();
  }
}, 300_000);

const builds = () => seen.outputs.filter(({ text }) => text === 'lorac build fox.lora').map(({ stdout }) => stdout);

test('init found the checkpoint and the captions', () => {
  expect(seen.outputs[0]?.stdout).toMatch(/found \d+ images in pictures, \d+ captions, 1 SDXL checkpoint/);
});

test('the second build does nothing, and those after an edit do not train again', () => {
  expect(builds()).toHaveLength(5);
  expect(builds()[1]).toContain('Nothing to do');
  for (const stdout of builds().slice(2)) expect(stdout).not.toMatch(/raw +(?:started|computed|running)/);
});

test('the files that it speaks of are there, and the tiny one is the smallest', async () => {
  expect(existsSync(join(folder, 'fox-analysis', 'grid.png'))).toBe(true);
  const pictures = await readdir(join(folder, '.lorac', 'runs', 'raw'), { recursive: true });
  expect(pictures.filter((name) => name.endsWith('.png')).length).toBeGreaterThanOrEqual(4);
  const [whole, tiny] = await Promise.all(['fox', 'fox-tiny'].map((name) => stat(join(folder, `${name}.safetensors`))));
  expect(tiny?.size).toBeLessThan(whole?.size ?? 0);
});
