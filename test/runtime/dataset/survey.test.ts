// A dataset as it lies on the disk: what is read, what is known already, and what is wrong with it.

import { renameSync, symlinkSync, utimesSync } from 'node:fs';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Store } from '../../../src/runtime/cache/store.ts';
import { captionText, type SurveyOptions, surveyImages } from '../../../src/runtime/dataset/survey.ts';
import { StageFailure } from '../../../src/runtime/events.ts';
import { pngOf } from '../../helpers/pictures.ts';
import { settle } from '../../helpers/settle.ts';
import { type TemporaryFolder, temporaryFolder } from '../../helpers/temporary-folder.ts';

const two = {
  'cats/a.png': pngOf({ width: 40, height: 30, shade: 1 }),
  'cats/a.txt': ' a cat, sitting \nsecond line\n',
  'cats/b.PNG': pngOf({ width: 30, height: 40, shade: 2 }),
  'cats/b.txt': '\uFEFFa dog',
};

function folderWith(files: { readonly [name: string]: string | Uint8Array }): TemporaryFolder {
  const folder = temporaryFolder();
  folder.write(files);
  return folder;
}

async function survey(
  folder: TemporaryFolder,
  store = new Store(folder.at('.lorac')),
  more: Partial<SurveyOptions> = {},
) {
  const images = await surveyImages({
    dataset: 'hero',
    patterns: [{ from: folder.path, pattern: 'cats' }],
    captionExtension: 'txt',
    files: store.files,
    signal: new AbortController().signal,
    say: () => {},
    ...more,
  });
  await store.save();
  return images;
}

async function problemsOf(folder: TemporaryFolder): Promise<readonly (readonly [string, string])[]> {
  const failure = await survey(folder).then(
    () => undefined,
    (error) => error,
  );
  expect(failure).toBeInstanceOf(StageFailure);
  const short = (text: string) => text.replaceAll(`${folder.path}/`, '');
  return (failure as StageFailure).failure.problems.map(({ path, message }) => [short(path), short(message)]);
}

test('renaming images and whatever surrounds a caption change nothing', async () => {
  using folder = folderWith(two);
  const before = await survey(folder);
  renameSync(folder.at('cats/a.png'), folder.at('cats/z.png'));
  renameSync(folder.at('cats/a.txt'), folder.at('cats/z.txt'));
  folder.write({ 'cats/z.txt': 'a cat, sitting' });
  const facts = (images: typeof before) => images.map(({ digest, size, caption }) => ({ digest, size, caption }));
  expect(facts(await survey(folder))).toEqual(facts(before));
  expect(before.map(({ size }) => size).toSorted()).toEqual([
    [30, 40],
    [40, 30],
  ]);
});

test('without wildcards the first line of a caption counts, and others change nothing', async () => {
  using folder = folderWith(two);
  const before = await survey(folder);
  const texts = await Promise.all(before.map((image) => captionText(image, 'first')));
  expect(texts.toSorted()).toEqual(['a cat, sitting', 'a dog']);
  folder.write({ 'cats/a.txt': 'a cat, sitting\nanother second line\nand a third' });
  await settle();
  const after = await survey(folder);
  expect(after.map(({ caption }) => caption)).toEqual(before.map(({ caption }) => caption));
});

test('for wildcards all lines of a caption count, but for space and empty ones', async () => {
  using folder = folderWith({ ...two, 'cats/b.txt': '\r\n\n a dog \r\n\n\tor a wolf\n ' });
  await settle();
  const before = await survey(folder, undefined, { captionLines: 'all' });
  const texts = await Promise.all(before.map((image) => captionText(image, 'all')));
  expect(texts.toSorted()).toEqual(['a cat, sitting\nsecond line', 'a dog\nor a wolf']);
  folder.write({ 'cats/b.txt': 'a dog\nor a wolf' });
  await settle();
  const after = await survey(folder, undefined, { captionLines: 'all' });
  expect(after.map(({ caption }) => caption)).toEqual(before.map(({ caption }) => caption));
  // What is known of all lines is not taken for the first.
  const first = await survey(folder);
  const lines = await Promise.all(first.map((image) => captionText(image, 'first')));
  expect(lines.toSorted()).toEqual(['a cat, sitting', 'a dog']);
});

test('an image without a caption, or with an empty one, has the words of its folder or no text, where the program says so', async () => {
  using folder = folderWith({
    'cats/5_red  fox/a.png': pngOf({ width: 40, height: 30, shade: 1 }),
    'cats/3_/b.png': pngOf({ width: 40, height: 30, shade: 2 }),
    'cats/blue_hill/c.png': pngOf({ width: 40, height: 30, shade: 3 }),
    'cats/blue_hill/c.txt': ' \n\n',
    'cats/blue_hill/d.png': pngOf({ width: 40, height: 30, shade: 4 }),
    'cats/blue_hill/d.txt': 'a caption',
  });
  const texts = async (captionMissing: 'folder' | 'empty') => {
    const images = await survey(folder, undefined, { captionMissing });
    return (await Promise.all(images.map((image) => captionText(image, 'first')))).toSorted();
  };
  // The first time files are read, the second they are known.
  for (const _ of [1, 2]) {
    expect(await texts('folder')).toEqual(['', 'a caption', 'blue_hill', 'red fox']);
    expect(await texts('empty')).toEqual(['', '', '', 'a caption']);
    await settle();
  }
  expect((await problemsOf(folder)).map(([path]) => path)).toEqual([
    'cats/3_/b.png',
    'cats/5_red  fox/a.png',
    'cats/blue_hill/c.txt',
  ]);
});

test('a crop of a face has the caption of its picture, unless it has one of its own', async () => {
  const picture = (shade: number) => pngOf({ width: 40, height: 30, shade });
  using folder = folderWith({
    'cats/fox_0120_0080_0512_0512.png': picture(1),
    'cats/fox_1_2_3_4.png': picture(2),
    'cats/fox_1_2_3_4.txt': 'its own',
    'cats/fox.txt': 'of the picture',
    'cats/_1_2_3_4.png': picture(3),
    'cats/fox_in_the_deep_snow.png': picture(4),
    'cats/fox_2_3_4.png': picture(5),
  });
  // The first time files are read, the second they are known.
  for (const _ of [1, 2]) {
    const images = await survey(folder, undefined, { captionMissing: 'empty' });
    const texts = await Promise.all(images.map((image) => captionText(image, 'first')));
    expect(texts.toSorted()).toEqual(['', '', '', 'its own', 'of the picture']);
    await settle();
  }
  // sd-scripts looks at pieces of names, whatever they are.
  expect((await problemsOf(folder)).map(([path]) => path)).toEqual([
    'cats/_1_2_3_4.png',
    'cats/fox_2_3_4.png',
    'cats/fox_in_the_deep_snow.png',
  ]);
});

test('folders that count say how often their images are used; nothing else there counts, and it is said', async () => {
  const picture = (shade: number) => pngOf({ width: 40, height: 30, shade });
  using folder = folderWith({
    'cats/5_red fox/a.png': picture(1),
    'cats/5_red fox/a.txt': 'a',
    'cats/5_red fox/deeper/b.png': picture(2),
    'cats/12/c.PNG': picture(3),
    'cats/12/d.png': picture(4),
    'cats/0_none/e.png': picture(5),
    'cats/fox/f.png': picture(6),
    'cats/-3_fox/g.png': picture(7),
    'cats/2_/empty.txt': '',
    'cats/2_twice/a again.png': picture(1),
    'cats/loose.png': picture(8),
    'cats/notes.txt': '',
  });
  const said: string[] = [];
  const images = await survey(folder, undefined, {
    folders: 'kohya',
    captionMissing: 'folder',
    say: (message) => said.push(message),
  });
  const found = images.map(({ path, repeats, words }) => [path.slice(folder.at('cats').length + 1), repeats, words]);
  expect(found.toSorted((a, b) => (`${a[0]}` < `${b[0]}` ? -1 : 1))).toEqual([
    ['12/c.PNG', 12, ''],
    ['12/d.png', 12, ''],
    ['2_twice/a again.png', 2, 'twice'],
    ['5_red fox/a.png', 5, undefined],
  ]);
  expect(said).toEqual([
    '"hero" leaves out "-3_fox", "0_none", "fox", "loose.png": only folders such as "5_fox" count.',
  ]);
});

test('folders that count must be there, hold images, and not be named after a date', async () => {
  const problems = async (files: { readonly [name: string]: string | Uint8Array }) => {
    using folder = folderWith(files);
    const failure = await survey(folder, undefined, { folders: 'kohya' }).catch((error: unknown) => error);
    if (!(failure instanceof StageFailure)) throw new Error('There is no failure.');
    return failure.failure.problems.map(({ message }) => message);
  };
  const image = pngOf({ width: 40, height: 30 });
  const none = 'There is no folder such as "5_fox" here with a PNG, JPEG or WebP image in it.';
  expect(await problems({ 'cats/a.png': image, 'cats/a.txt': 'a' })).toEqual([none]);
  expect(await problems({ 'cats/5_fox/a.txt': 'a' })).toEqual([none]);
  expect(await problems({ cats: '' })).toEqual(['There is no such folder, and with folders = kohya one is needed.']);
  expect(await problems({ 'cats/20240101_fox/a.png': image })).toEqual([
    'Its name asks for 20240101 repeats, and 100000 are the most.',
  ]);
});

test('a caption that is no text is refused, whatever stands for one that is missing', async () => {
  using folder = folderWith({ ...two, 'cats/b.txt': Buffer.from([0xe9, 0x74]), 'cats/a.txt': '\nlate' });
  for (const captionMissing of ['folder', 'empty'] as const) {
    await expect(survey(folder, undefined, { captionMissing })).rejects.toThrow(StageFailure);
  }
});

test('everything that is wrong is told at once, by file', async () => {
  const whole = pngOf({ width: 40, height: 30 });
  using folder = folderWith({
    ...two,
    'cats/cut.png': whole.subarray(0, 60),
    'cats/cut.txt': 'a caption',
    'cats/empty.png': '',
    'cats/empty.txt': 'a caption',
    'cats/silent.png': whole,
    'cats/blank.png': whole,
    'cats/blank.txt': ' \n',
    'cats/late.png': whole,
    'cats/late.txt': '\na caption on the second line',
    'cats/latin.png': whole,
    'cats/latin.txt': Buffer.from([0xe9, 0x74, 0xe9]),
    'cats/wide.png': whole,
    'cats/wide.txt': Buffer.from('a cat', 'utf16le'),
    'cats/broken.txt': 'a caption',
    'cats/circle.txt': 'a caption',
  });
  symlinkSync('nowhere.png', folder.at('cats/broken.png'));
  symlinkSync('circle.png', folder.at('cats/circle.png'));
  expect(await problemsOf(folder)).toEqual([
    ['cats/blank.txt', 'The caption is empty.'],
    ['cats/broken.png', 'The file is gone, or is a link that leads nowhere.'],
    ['cats/circle.png', 'The file cannot be read (ELOOP).'],
    ['cats/cut.png', 'The image is cut off: the file ends before the picture does.'],
    ['cats/empty.png', 'The file is empty (0 bytes).'],
    ['cats/late.txt', 'The first line of the caption is empty.'],
    ['cats/latin.txt', 'The caption is not UTF-8 text. Save it as UTF-8.'],
    ['cats/silent.png', 'The image has no caption: there is no "cats/silent.txt".'],
    ['cats/wide.txt', 'The caption is not UTF-8 text. Save it as UTF-8.'],
  ]);
});

test('a dataset without images, or without a folder, says so', async () => {
  using folder = folderWith({ 'cats/readme.md': '' });
  expect(await problemsOf(folder)).toEqual([['cats', 'There is no PNG, JPEG or WebP image here.']]);
  renameSync(folder.at('cats'), folder.at('dogs'));
  expect(await problemsOf(folder)).toEqual([['cats', 'There is no such file or folder.']]);
});

test('what did not change is not read again', async () => {
  using folder = folderWith(two);
  await settle();
  const before = await survey(folder);
  const store = new Store(folder.at('.lorac'));
  for (const image of before) {
    expect(store.files.look(image.path)?.facts).toMatchObject({ digest: image.digest, image: image.size });
    expect(store.files.look(image.captionPath)?.facts).toMatchObject({ caption: image.caption });
  }
  utimesSync(folder.at('cats/a.png'), new Date(), new Date());
  expect(store.files.look(folder.at('cats/a.png'))?.facts).toEqual({});
  expect(await survey(folder)).toEqual(before);
});

test('a file that has only just changed is not trusted to be known', async () => {
  using folder = folderWith(two);
  await survey(folder);
  const store = new Store(folder.at('.lorac'));
  expect(store.files.look(folder.at('cats/a.png'))?.facts).toEqual({});
});

test('files from before the clock was set back are known all the same', async () => {
  using folder = folderWith(two);
  await settle();
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 86_400_000 });
  onTestFinished(() => void vi.useRealTimers());
  const [image] = await survey(folder);
  if (image === undefined) throw new Error('There is no image.');
  const store = new Store(folder.at('.lorac'));
  expect(store.files.look(image.path)?.facts).toMatchObject({ digest: image.digest });
});
