// Where the mask of an image is looked for, and what is told of one that cannot be used.

import { expect, test } from 'vitest';
import { Store } from '../../../src/runtime/cache/store.ts';
import type { MaskSource } from '../../../src/runtime/dataset/masks.ts';
import { lookAtDataset, surveyImages } from '../../../src/runtime/dataset/survey.ts';
import { StageFailure } from '../../../src/runtime/events.ts';
import type { AbsolutePath } from '../../../src/runtime/graph/graph.ts';
import { pngOf } from '../../helpers/pictures.ts';
import { type TemporaryFolder, temporaryFolder } from '../../helpers/temporary-folder.ts';

type Files = { readonly [name: string]: string | Uint8Array };
const picture = (shade: number, width = 40, height = 30) => pngOf({ width, height, shade });

function optionsOf(folder: TemporaryFolder, source: Partial<MaskSource> = {}, images: readonly string[] = ['cats']) {
  return {
    dataset: 'hero',
    patterns: images.map((pattern) => ({ from: folder.path, pattern })),
    captionExtension: 'txt',
    captionMissing: 'empty' as const,
    files: new Store(folder.at('.lorac')).files,
    signal: new AbortController().signal,
    say: () => {},
    masks: { folder: folder.at('masks') as AbsolutePath, missing: 'error' as const, asStored: false, ...source },
  };
}

async function looked(files: Files, source: Partial<MaskSource> = {}, images?: readonly string[]) {
  using folder = temporaryFolder();
  folder.write(files);
  const short = (text: string) => text.replaceAll(`${folder.path}/`, '');
  const found = await lookAtDataset(optionsOf(folder, source, images));
  return {
    masks: Object.fromEntries(found.images.map(({ path, mask }) => [short(path), mask && short(mask.path)])),
    problems: found.problems.map(({ code, path, message }) => [code, short(path), short(message)]),
  };
}

test('a mask has the name of its image, and lies where the image lies or right in the folder', async () => {
  const files = {
    'cats/one.png': picture(1),
    'cats/day/one.jpg.png': picture(2),
    'cats/day/two.PNG': picture(3),
    'cats/night/three.png': picture(4),
    'masks/one.webp.png': picture(9),
    'masks/one.PNG': picture(5),
    'masks/day/one.jpg.png': picture(6),
    'masks/day/two.png': picture(7),
    'masks/three.png': picture(8),
    'masks/notes.txt': 'no picture',
  };
  const masks = {
    'cats/one.png': 'masks/one.PNG',
    'cats/day/one.jpg.png': 'masks/day/one.jpg.png',
    'cats/day/two.PNG': 'masks/day/two.png',
    'cats/night/three.png': 'masks/three.png',
  };
  for (const pattern of ['cats', 'cats/**/*', './cats/**/*.{png,jpg}', 'c?ts/**/*.png'.replace('c?ts', 'cats')]) {
    expect(await looked(files, {}, [pattern]), pattern).toEqual({ masks, problems: [] });
  }
  expect((await looked(files, {}, ['cats/day/two.PNG'])).masks).toEqual({ 'cats/day/two.PNG': undefined });
});

test('masks below the images are none of them', async () => {
  using folder = temporaryFolder();
  folder.write({ 'cats/one.png': picture(1), 'cats/masks/one.png': picture(2) });
  const images = await surveyImages(optionsOf(folder, { folder: folder.at('cats/masks') as AbsolutePath }));
  expect(images.map(({ path }) => path)).toEqual([folder.at('cats/one.png')]);
  expect(images[0]?.mask?.path).toBe(folder.at('cats/masks/one.png'));
});

test('an image without a mask is refused, or counts as a whole where the program says so', async () => {
  const files = { 'cats/a.png': picture(1), 'cats/b/c.png': picture(2), 'masks/a.png': picture(3) };
  const message = 'The image has no mask: there is no "masks/b/c.png".';
  expect((await looked(files)).problems).toEqual([['no-mask', 'cats/b/c.png', message]]);
  expect(await looked(files, { missing: 'whole' })).toEqual({
    masks: { 'cats/a.png': 'masks/a.png', 'cats/b/c.png': undefined },
    problems: [],
  });
  using folder = temporaryFolder();
  folder.write(files);
  const failure = await surveyImages(optionsOf(folder)).catch((error: unknown) => error);
  if (!(failure instanceof StageFailure)) throw new Error('There is no failure.');
  expect(failure.failure.hint).toContain('mask_missing = whole');
});

test('masks that cannot be used are told with their file, all at once', async () => {
  const whole = picture(1);
  const names = ['cut', 'empty', 'text', 'shape', 'turned', 'double', 'small'];
  const files = {
    ...Object.fromEntries(names.map((name, shade) => [`cats/${name}.png`, picture(10 + shade)])),
    'cats/also/small.png': picture(9),
    'masks/cut.png': whole.subarray(0, 60),
    'masks/empty.png': '',
    'masks/text.png': 'no picture',
    'masks/shape.png': picture(2, 40, 40),
    'masks/turned.png': picture(3, 30, 40),
    'masks/double.png': picture(4),
    'masks/double.jpg': picture(5),
    'masks/small.png': picture(6, 20, 15),
  };
  expect((await looked(files)).problems).toEqual([
    ['bad-mask', 'cats/double.png', 'The image has two masks, "masks/double.jpg" and "masks/double.png".'],
    [
      'bad-mask',
      'cats/small.png',
      '"masks/small.png" is the mask of "cats/also/small.png" already. Masks can lie in folders as images do.',
    ],
    ['bad-mask', 'masks/cut.png', 'The image is cut off: the file ends before the picture does.'],
    ['bad-mask', 'masks/empty.png', 'The file is empty (0 bytes).'],
    ['bad-mask', 'masks/shape.png', 'The mask has 40x40 pixels, which is not the shape of its image (40x30).'],
    ['bad-mask', 'masks/text.png', 'The file is not a PNG, JPEG or WebP image.'],
    ['bad-mask', 'masks/turned.png', 'The mask has 30x40 pixels, which is not the shape of its image (40x30).'],
  ]);
});

test('a folder of masks has to be there', async () => {
  expect((await looked({ 'cats/a.png': picture(1) })).problems).toEqual([
    ['no-mask', 'masks', 'There is no such folder, and masks should lie in it.'],
  ]);
});

test('shapes are compared upright, or as stored where EXIF is ignored', async () => {
  const exif = [0x49, 0x49, 0x2a, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
  const files = {
    'cats/a.png': pngOf({ width: 40, height: 30, chunks: { eXIf: exif } }),
    'masks/a.png': picture(1, 30, 40),
  };
  expect((await looked(files)).problems).toEqual([]);
  expect((await looked(files, { asStored: true })).problems).toEqual([
    ['bad-mask', 'masks/a.png', 'The mask has 30x40 pixels, which is not the shape of its image (40x30).'],
  ]);
});
