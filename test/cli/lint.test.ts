// lorac lint as users run it: a folder with one file of each kind of trouble. Nothing here needs Python.

import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { adviceOn } from '../../src/cli/lint-advice.ts';
import { lintBlock, looksIn, type Picture } from '../../src/cli/lint-dataset.ts';
import { closerLooker } from '../../src/cli/look-closer.ts';
import { compile } from '../../src/parser/check.ts';
import { Store } from '../../src/runtime/cache/store.ts';
import { lookKey } from '../../src/runtime/dataset/pixel-look.ts';
import { lookAtDataset } from '../../src/runtime/dataset/survey.ts';
import type { NodeId } from '../../src/runtime/graph/graph.ts';
import { startFakeWorker } from '../helpers/fake-worker.ts';
import { pngOf } from '../helpers/pictures.ts';
import { settle } from '../helpers/settle.ts';
import { type TemporaryFolder, temporaryFolder } from '../helpers/temporary-folder.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');
const fixtures = resolve(import.meta.dirname, '../fixtures/images');

const program = `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images"  resolution = 64x64  bucket = { min = 64  max = 256 } }
dataset good { images = "good"  resolution = 64x64  bucket = { min = 64  max = 256 } }
train raw { base = pony  data = hero  steps = 3  batch_size = 4  gradient_accumulation_steps = 1 }
train long { base = pony  data = good  steps = 10 }
`;

const square = (shade: number) => pngOf({ width: 64, height: 64, shade });

let folder: TemporaryFolder;

beforeAll(async () => {
  folder = temporaryFolder();
  const captioned = (name: string, image: string | Uint8Array, caption = 'hero, red hair') => ({
    [`images/${name}`]: image,
    [`images/${name.replace(/\.\w+$/, '.txt')}`]: caption,
  });
  folder.write({
    'hero.lora': program,
    'good/a.png': square(1),
    'good/a.txt': 'hero',
    ...captioned('cut.png', square(1).subarray(0, 60)),
    ...captioned('small.png', pngOf({ width: 32, height: 32 })),
    ...captioned('deep.png', pngOf({ width: 64, height: 64, depth: 16 })),
    ...captioned('first.png', square(7)),
    ...captioned('second.png', square(7)),
    ...captioned('wide.png', pngOf({ width: 640, height: 64, shade: 3 })),
    ...captioned('empty.png', square(8), ''),
    ...captioned('typo.png', square(9), 'hero, red hairr'),
    'images/silent.png': square(10),
  });
  for (const name of ['turned.jpg', 'cmyk.jpg', 'alpha.png', 'animated.webp']) {
    mkdirSync(folder.at('images'), { recursive: true });
    copyFileSync(join(fixtures, name), folder.at(`images/${name}`));
    folder.write({ [`images/${name.replace(/\.\w+$/, '.txt')}`]: 'hero, red hair' });
  }
  // The first call bundles what has changed.
  await run('--version');
}, 120_000);

afterAll(() => folder[Symbol.dispose]());

async function run(...args: string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [lorac, ...args], {
    cwd: folder.path,
    env: { NO_COLOR: '1', FORCE_COLOR: undefined, LORAC_PYTHON: '/nonexistent/python', LORAC_STORE: undefined },
    reject: false,
    stdin: 'ignore',
  });
  return { exitCode, stdout, stderr };
}

test('every kind of trouble is told with its file and what to do', async () => {
  const { exitCode, stdout, stderr } = await run('lint', 'hero.lora', 'hero', '--fast');
  expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: '' });
  expect(stdout.replaceAll(folder.path, '/project')).toMatchSnapshot();
});

test('a good dataset gives 0, and what a training does with it', async () => {
  const { exitCode, stdout } = await run('lint', 'good', '--fast');
  expect(exitCode).toBe(0);
  expect(stdout.split('\n')).toEqual([
    'good: 1 image (pixels not looked at), nothing odd',
    '  1 bucket',
    '    64x64      1 per epoch, nothing is cut off',
    '  long: 10 steps of 48 images are 480 epochs of 0.021 steps',
  ]);
});

test('programs get all of it as JSON', async () => {
  const { stdout } = await run('lint', '--fast', '--json');
  const { datasets } = JSON.parse(stdout);
  expect(datasets.map((one: { dataset: string }) => one.dataset)).toEqual(['hero', 'good']);
  expect(datasets[0].findings).toContainEqual({
    code: 'duplicate',
    severity: 'warning',
    files: [folder.at('images/first.png'), folder.at('images/second.png')],
    message: 'The same image is there 2 times.',
    advice: expect.stringContaining('Keep one of them'),
  });
  expect(datasets[1].buckets).toEqual([
    { size: [64, 64], visits: 1, images: [{ path: folder.at('good/a.png'), size: [64, 64], scale: 1, cut: [0, 0] }] },
  ]);
  expect(datasets[1].trainings).toEqual([
    { name: 'long', steps: 10, batchSize: 8, imagesPerStep: 48, visits: 480, epochs: 480, stepsPerEpoch: 1 / 48 },
  ]);
});

test('a name that no dataset has, and a worker that cannot be had, say what to do', async () => {
  expect(await run('lint', 'hero.lora', 'her')).toMatchObject({
    exitCode: 2,
    stderr: 'error: There is no dataset "her".\nhint: perhaps hero; there is hero, good',
  });
  const { exitCode, stderr } = await run('lint', 'good');
  expect(exitCode).toBe(1);
  expect(stderr).toContain('/nonexistent/python');
});

test('a build that trains begins with what is worth a warning, and one that does not is silent', async () => {
  const path = folder.at('hero.lora');
  const { program: checked } = compile({ path, text: program }, { params: new Map() });
  if (checked === undefined) throw new Error('The program is wrong.');
  const advice = (...stale: string[]) =>
    adviceOn(checked, new Set(stale as NodeId[]), new Store(folder.at('advice')), new AbortController().signal);
  expect(await advice('long')).toEqual([]);
  expect(await advice('hero:manifest', 'raw:latents')).toEqual([]);
  const lines = await advice('raw', 'raw:latents');
  expect(lines).toHaveLength(6);
  expect(lines[1]).toMatch(/^The dataset "hero": .*first\.png: The same image is there 2 times\.$/);
  expect(lines[2]).toMatch(/it has an alpha channel\. 1 more is like it: lorac lint\.$/);
});

test('masks are looked at as images are, and alpha that is a mask is nothing odd', async () => {
  folder.write({ 'masks/a.png': square(20), 'masks/b.png': pngOf({ width: 64, height: 32 }) });
  for (const name of ['a', 'b', 'c']) folder.write({ [`masked/${name}.png`]: square(name.charCodeAt(0)) });
  const linted = async (attributes: string) => {
    const text = `dataset hero { caption_missing = empty  ${attributes} }`;
    const { program: checked } = compile({ path: folder.at('masks.lora'), text }, { params: new Map() });
    const block = checked?.blocks[0];
    if (checked === undefined || block?.kind !== 'dataset') throw new Error('The program is wrong.');
    const store = new Store(folder.at('masks-linted'));
    const looks = looksIn(store);
    const lookCloser = async (pictures: readonly Picture[]) => {
      for (const { digest, path } of pictures)
        looks.set(lookKey(digest), {
          transparent: 0.5,
          hash: '0'.repeat(64),
          plain: false,
          dark: path.includes('masks'),
        });
    };
    const signal = new AbortController().signal;
    const { findings } = await lintBlock(block, { program: checked, store, looks, signal, say: () => {}, lookCloser });
    return findings.map(({ code, severity, files }) => `${severity} ${code} ${files.map((file) => basename(file))}`);
  };
  expect(await linted('images = "masked"  masks = "masks"  resolution = 64x64  transparency = black')).toEqual([
    'error no-mask c.png',
    'error bad-mask b.png',
    'warning black-mask a.png',
  ]);
  const alpha = 'images = "images/alpha.png"  resolution = 64x64';
  expect(await linted(alpha)).toContain('warning transparent alpha.png');
  expect(await linted(`${alpha}  alpha_mask = true`)).not.toContain('warning transparent alpha.png');
});

test('pixels are looked at once for each content, and what was seen is kept', async () => {
  await settle();
  const journal = folder.at('journal');
  const look = async () => {
    const store = new Store(folder.at('looked'));
    const looks = looksIn(store);
    const { images } = await lookAtDataset({
      dataset: 'good',
      patterns: [{ from: folder.path, pattern: 'images' }],
      captionExtension: 'txt',
      files: store.files,
      signal: new AbortController().signal,
      say: () => {},
    });
    const closer = closerLooker({
      store,
      looks,
      signal: new AbortController().signal,
      startWorker: () => startFakeWorker({ JOURNAL: journal }),
      onLooked: () => {},
    });
    const unseen = images.filter(({ digest }) => looks.get(`1:${digest}`) === undefined);
    await closer.look(unseen);
    await closer.close();
    return unseen.length;
  };
  const first = await look();
  expect(await look()).toBe(0);
  const requests = readFileSync(journal, 'utf8').trim().split('\n');
  expect(requests).toHaveLength(1);
  // Two of the files hold the same image.
  expect(JSON.parse(requests[0] as string).items).toHaveLength(first - 1);
});
