// Which files a dataset's words mean.

import { mkdirSync, symlinkSync } from 'node:fs';
import { relative } from 'node:path';
import fc from 'fast-check';
import { globby } from 'globby';
import { expect, test } from 'vitest';
import { findImages, simplePattern } from '../../../src/runtime/dataset/find-images.ts';
import { type TemporaryFolder, temporaryFolder } from '../../helpers/temporary-folder.ts';

const names = [
  'cats/a.png',
  'cats/B.PNG',
  'cats/deep/c.jpg',
  'cats/deep/d.JpEg',
  'cats/e.webp',
  'cats/a.txt',
  'dogs/f.png',
];

function withFiles(files: readonly string[]): TemporaryFolder {
  const folder = temporaryFolder();
  folder.write(Object.fromEntries(files.map((name) => [name, ''])));
  return folder;
}

async function found(folder: TemporaryFolder, ...patterns: string[]) {
  const result = await findImages(patterns.map((pattern) => ({ from: folder.path, pattern })));
  return {
    images: result.images.map((path) => relative(folder.path, path)),
    problems: result.problems.map(({ path, message }) => [
      relative(folder.path, path),
      message.replace(folder.path, ''),
    ]),
  };
}

test('a folder means every image below it, whatever the case of its suffix', async () => {
  using folder = withFiles([...names, 'cats/.hidden.png', 'cats/.cache/g.png']);
  const { images } = await found(folder, 'cats');
  expect(images).toEqual(['cats/B.PNG', 'cats/a.png', 'cats/deep/c.jpg', 'cats/deep/d.JpEg', 'cats/e.webp']);
});

test.each([
  ['cats/*', ['cats/B.PNG', 'cats/a.png', 'cats/e.webp']],
  ['cats/*.png', ['cats/B.PNG', 'cats/a.png']],
  ['**/*.{jpg,jpeg}', ['cats/deep/c.jpg', 'cats/deep/d.JpEg']],
  ['*/deep/*.jpg', ['cats/deep/c.jpg']],
  ['{cats,dogs}/[af].png', ['cats/a.png', 'dogs/f.png']],
  ['cats/a.png', ['cats/a.png']],
])('%s', async (pattern, images) => {
  using folder = withFiles(names);
  expect(await found(folder, pattern)).toEqual({ images, problems: [] });
});

test('several patterns give every image once', async () => {
  using folder = withFiles(names);
  expect((await found(folder, 'cats/*.png', 'cats/a.png', 'dogs')).images).toEqual([
    'cats/B.PNG',
    'cats/a.png',
    'dogs/f.png',
  ]);
});

test('what is not there is told for each pattern', async () => {
  using folder = withFiles(names);
  folder.write({ 'texts/a.txt': '' });
  const { problems } = await found(folder, 'birds', 'birds/*.png', 'texts', 'cats/x*.png', 'dogs');
  expect(problems).toEqual([
    ['birds', 'There is no such file or folder.'],
    ['birds/*.png', 'There is no folder "/birds".'],
    ['texts', 'There is no PNG, JPEG or WebP image here.'],
    ['cats/x*.png', 'There is no PNG, JPEG or WebP image here.'],
  ]);
});

test('a folder whose name looks like a pattern is a folder', async () => {
  using folder = withFiles(['cats [2024] (new)/a.png']);
  expect((await found(folder, 'cats [2024] (new)')).images).toEqual(['cats [2024] (new)/a.png']);
});

test('links are followed, and a folder that contains itself ends', async () => {
  using folder = withFiles(['real/a.png', 'cats/b.png']);
  mkdirSync(folder.at('cats/deep'));
  symlinkSync(folder.at('cats'), folder.at('cats/deep/again'));
  symlinkSync(folder.at('real'), folder.at('cats/linked'));
  symlinkSync(folder.at('gone'), folder.at('cats/broken.png'));
  // The broken one is found as well, so that somebody complains about it.
  expect((await found(folder, 'cats')).images).toEqual(['cats/b.png', 'cats/broken.png', 'cats/linked/a.png']);
});

test('the patterns that are walked here find what the library finds', async () => {
  const name = fc.constantFrom('a', 'B', 'c.d', 'x-1', 'sub');
  const file = fc.tuple(fc.array(name, { maxLength: 2 }), name, fc.constantFrom('png', 'PNG', 'jpg', 'webp', 'txt'));
  const pattern = fc
    .tuple(
      fc.constantFrom('', 'a/', 'sub/B/'),
      fc.constantFrom('', '**/'),
      fc.constantFrom('', '.png', '.{png,jpg}', '.webp'),
    )
    .map((parts) => `${parts[0]}${parts[1]}*${parts[2]}`);
  await fc.assert(
    fc.asyncProperty(fc.array(file, { minLength: 1, maxLength: 8 }), pattern, async (files, written) => {
      expect(simplePattern(written)).toBeDefined();
      using folder = withFiles(
        files.map(([folders, stem, suffix]) => [...folders.map((part) => `${part}`), `${stem}.${suffix}`].join('/')),
      );
      const library = await globby(written, { cwd: folder.path, caseSensitiveMatch: false, expandDirectories: false });
      const images = library.filter((path) => /\.(png|jpe?g|webp)$/i.test(path)).sort();
      expect((await found(folder, written)).images).toEqual(images);
    }),
    { numRuns: 60 },
  );
});
