// lorac init: what it finds, what it asks, and the program that comes of it. The terminal is a pair of pipes.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { stepsFor } from '../../src/cli/init/program.ts';
import { type InitCommand, initIn } from '../../src/cli/init.ts';
import { UsageError } from '../../src/cli/usage-error.ts';
import { compile } from '../../src/parser/check.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/runtime/safetensors/writer.ts';
import { pngOf } from '../helpers/pictures.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { narrowShapes } from '../runtime/sdxl/sdxl-fixtures.ts';

interface Scene {
  /** What lies there, besides pictures. */
  readonly files?: { readonly [path: string]: string };
  readonly pictures?: readonly string[];
  /** Where SDXL checkpoints lie. */
  readonly models?: readonly string[];
  readonly command?: Partial<InitCommand>;
  /** What is typed, line by line; nobody is there without. */
  readonly answers?: readonly string[];
  readonly modelFolders?: string;
}

/** A folder with "work", in which init runs, inside a home. */
async function initHere({ files = {}, pictures = [], models = [], command = {}, answers, modelFolders }: Scene) {
  // So deep that nothing outside is among the checkpoints that are found.
  const outside = temporaryFolder();
  onTestFinished(() => outside[Symbol.dispose]());
  outside.write({ 'a/b/c/.keep': '' });
  const home = temporaryFolder(outside.at('a/b/c'));
  home.write({ 'work/.keep': '', ...files });
  home.write(Object.fromEntries(pictures.map((path, at) => [path, pngOf({ width: 64, height: 64, shade: at })])));
  for (const path of models) {
    home.write({ [path]: '' });
    await writeModel(home.at(path));
  }
  const said: string[] = [];
  const terminal = answers === undefined ? undefined : fakeTerminal(answers);
  const code = await initIn(
    { folder: 'pics', ...command },
    {
      here: home.at('work'),
      home: home.path,
      modelFolders: modelFolders === undefined ? undefined : home.at(modelFolders),
      terminal: terminal && { input: terminal.input, output: terminal.output },
      say: (line) => said.push(line),
    },
  );
  const read = (path: string) => (existsSync(home.at(path)) ? readFileSync(home.at(path), 'utf8') : undefined);
  return { code, said, read, shown: () => terminal?.shown() ?? '', path: home.path };
}

/** Types each answer when a question stands there, as somebody would. */
function fakeTerminal(answers: readonly string[]) {
  const input = new PassThrough();
  const output = new PassThrough();
  let shown = '';
  let next = 0;
  output.on('data', (piece: Buffer) => {
    shown += piece.toString();
    if (!/\] $/.test(shown)) return;
    const answer = answers[next];
    next += 1;
    if (answer === undefined) input.end();
    else setImmediate(() => input.write(`${answer}\n`));
  });
  return { input, output, shown: () => shown };
}

/** SDXL's tensors with narrow layers. */
async function writeModel(path: string): Promise<void> {
  const tensors = [...narrowShapes()].map(([name, { shape }]): TensorToWrite => {
    const bytes = new Uint8Array(shape.reduce((product, size) => product * size, 1));
    return { name, dtype: 'F8_E4M3', shape, source: { kind: 'bytes', bytes } };
  });
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
}

/** The program checks, without a word. */
function checked(text: string | undefined) {
  const { program, diagnostics } = compile({ path: 'x.lora', text: text ?? '' }, { params: new Map() });
  expect(diagnostics.filter(({ severity }) => severity === 'error')).toEqual([]);
  const attributes = (kind: string) =>
    program?.blocks.find((block) => block.kind === kind)?.attributes as { readonly [name: string]: unknown };
  return { program, attributes };
}

const captioned = (folder: string, count: number, caption: string) => ({
  pictures: Array.from({ length: count }, (_, at) => `${folder}/${at}.png`),
  files: Object.fromEntries(Array.from({ length: count }, (_, at) => [`${folder}/${at}.txt`, `${caption} ${at}`])),
});

test('without anybody to ask: one checkpoint, all captions, and a program that checks', async () => {
  const scene = await initHere({
    ...captioned('work/pics/red fox', 5, 'fox, forest, detail'),
    models: ['work/models/pony.safetensors'],
    command: { folder: 'pics/red fox', yes: true },
  });
  expect(scene.code).toBe(0);
  expect(scene.said).toEqual([
    'found 5 images in pics/red fox, 5 captions, 1 SDXL checkpoint',
    'wrote red_fox.lora',
    'next: lorac lint red_fox.lora, then lorac build red_fox.lora',
  ]);
  expect(scene.read('work/red_fox.lora')).toMatchSnapshot();
  expect(scene.read('work/red_fox-prompts.txt')).toBe('fox, forest, detail 0\nfox, forest, detail 1\n');
  checked(scene.read('work/red_fox.lora'));
});

test('of several checkpoints one is chosen by its number, and a number that is none is asked for again', async () => {
  const scene = await initHere({
    ...captioned('work/pics', 3, 'a fox in a forest'),
    models: ['work/models/a.safetensors', 'ComfyUI/models/checkpoints/sdxl/b.safetensors'],
    files: { 'work/models/lora.safetensors': 'no weights', ...captioned('work/pics', 3, 'a fox in a forest').files },
    answers: ['my fox!', '7', '2'],
  });
  expect(scene.shown()).toContain('What shall the LoRA be called? [work] ');
  expect(scene.shown()).toContain('  2  ../ComfyUI/models/checkpoints/sdxl/b.safetensors (');
  expect(scene.shown()).toContain('There is no 7.');
  const { attributes } = checked(scene.read('work/my-fox.lora'));
  expect(attributes('checkpoint').path).toMatchObject({ text: '../ComfyUI/models/checkpoints/sdxl/b.safetensors' });
  // Sentences, not tags: what stands between their commas is no unit.
  expect(attributes('dataset').shuffle_caption).toBe(false);
});

test('Enter takes what is proposed, everywhere', async () => {
  const scene = await initHere({
    ...captioned('work/pics/vixen', 3, 'vixen, snow, night'),
    pictures: ['work/pics/vixen/0.png', 'work/pics/vixen/1.png', 'work/pics/vixen/2.png', 'work/pics/vixen/3.png'],
    models: ['work/models/a.safetensors', 'work/models/b.safetensors'],
    answers: ['', '', ''],
  });
  const { attributes } = checked(scene.read('work/vixen.lora'));
  expect(attributes('checkpoint').path).toMatchObject({ text: 'models/a.safetensors' });
  expect(attributes('dataset')).toMatchObject({ caption_missing: 'empty', keep_tokens: 1 });
  expect(scene.shown()).toContain('1 image has no caption. What then?');
});

test('folders such as 5_fox are read as sd-scripts reads them, and lend their words', async () => {
  const scene = await initHere({
    pictures: ['work/pics/5_fox/a.png', 'work/pics/5_fox/b.png', 'work/pics/2_cat/c.png'],
    models: ['models/a.safetensors'],
    command: { yes: true, name: 'both' },
  });
  const { attributes } = checked(scene.read('work/both.lora'));
  expect(attributes('dataset')).toMatchObject({ folders: 'kohya', caption_missing: 'folder' });
  // 12 visits in an epoch: 24 steps of 48 images show each of them 96 times.
  expect(attributes('train').steps).toBe(24);
  expect(attributes('train').sample).toBeUndefined();
});

test('inside a folder such as 5_fox, the folder above is the one that counts', async () => {
  const scene = await initHere({ pictures: ['work/pics/5_fox/a.png'], command: { yes: true } });
  expect(checked(scene.read('work/fox.lora')).attributes('dataset').images).toMatchObject({ text: 'pics' });
});

test('without a checkpoint the program has a line for one, and it is said what to do', async () => {
  const scene = await initHere({ ...captioned('work/pics', 2, 'x'), command: { yes: true, name: 'a' } });
  expect(scene.code).toBe(0);
  expect(scene.read('work/a.lora')).toContain('# No SDXL checkpoint was found.');
  expect(scene.said).toContain(
    'No SDXL checkpoint was found: write the path of one into a.lora before you build. LORAC_MODELS can name folders to look in.',
  );
  checked(scene.read('work/a.lora'));
});

test('LORAC_MODELS names folders, which go first', async () => {
  const scene = await initHere({
    ...captioned('work/pics', 2, 'x'),
    models: ['work/models/a.safetensors', 'elsewhere/z.safetensors'],
    modelFolders: 'elsewhere',
    command: { yes: true, name: 'a' },
  });
  expect(checked(scene.read('work/a.lora')).attributes('checkpoint').path).toMatchObject({
    text: '../elsewhere/z.safetensors',
  });
});

test('a file that is there is replaced only when somebody says so', async () => {
  const before = { ...captioned('work/pics', 2, 'x') };
  const files = { ...before.files, 'work/a.lora': 'mine' };
  const alone = initHere({ ...before, files, command: { yes: true, name: 'a' } });
  await expect(alone).rejects.toThrow(UsageError);
  const refused = await initHere({ ...before, files, answers: ['n'], command: { name: 'a' } });
  expect([refused.code, refused.read('work/a.lora')]).toEqual([130, 'mine']);
  const agreed = await initHere({ ...before, files, answers: ['y'], command: { name: 'a' } });
  expect(agreed.read('work/a.lora')).toContain('# a.lora: a LoRA from 2 images.');
});

test('an end of the input in place of an answer writes nothing', async () => {
  const scene = await initHere({ ...captioned('work/pics', 2, 'x'), answers: [] });
  expect(scene.code).toBe(130);
  expect(scene.said.at(-1)).toBe('Nothing was written.');
  expect(existsSync(join(scene.path, 'work/work.lora'))).toBe(false);
});

test('prompts that are there are used', async () => {
  const before = captioned('work/pics', 2, 'x');
  const scene = await initHere({
    ...before,
    files: { ...before.files, 'work/pics/sample-prompts.txt': 'a fox' },
    command: { yes: true, name: 'a' },
  });
  expect(checked(scene.read('work/a.lora')).attributes('train').sample).toMatchObject({
    prompts: { text: 'pics/sample-prompts.txt' },
  });
  expect(scene.read('work/a-prompts.txt')).toBeUndefined();
});

test.each([
  ['a folder that is not there', {}, 'There is no folder pics.'],
  ['a folder without images', { files: { 'work/pics/a.txt': 'x' } }, /There is no PNG, JPEG or WebP image in pics/],
  ['a file', { files: { 'work/pics': 'x' } }, 'pics is no folder.'],
  ['a name of nothing', { pictures: ['work/pics/a.png'], command: { name: '//' } }, /no name for a file/],
])('%s is refused in a sentence', async (_, scene: Scene, message) => {
  await expect(initHere(scene)).rejects.toThrow(message);
});

test('a name with quotes or ${…} in it stays text', async () => {
  const scene = await initHere({ pictures: ['work/pics/a "b" $\\{c}/a.png'], command: { yes: true, name: 'a"b' } });
  expect(checked(scene.read('work/a-b.lora')).attributes('dataset').images).toMatchObject({
    text: 'pics/a "b" $\\{c}',
  });
});

test.each([
  [5, 20],
  [20, 40],
  [40, 80],
  [200, 80],
  [1000, 209],
])('%d images are trained for %d steps', (images, steps) => {
  expect(stepsFor(images).steps).toBe(steps);
});
