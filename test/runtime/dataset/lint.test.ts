// What a linter finds in facts about images, without any files.

import { expect, test } from 'vitest';
import type { Digest } from '../../../src/runtime/cache/digest.ts';
import { type LintInput, lintDataset } from '../../../src/runtime/dataset/lint/lint.ts';
import { alikePairs, type PixelLook, parseLook } from '../../../src/runtime/dataset/pixel-look.ts';
import type { SurveyedImage } from '../../../src/runtime/dataset/survey.ts';
import type { AbsolutePath } from '../../../src/runtime/graph/graph.ts';

const path = (name: string) => `/images/${name}` as AbsolutePath;

function image(name: string, facts: Partial<SurveyedImage> = {}): SurveyedImage {
  return {
    path: path(name),
    digest: `digest of ${name}` as Digest,
    size: [1024, 1024],
    orientation: 1,
    traits: [],
    captionPath: path(`${name}.txt`),
    caption: 'digest' as Digest,
    ...facts,
  };
}

const usual: LintInput['settings'] = {
  bucket: { resolution: [1024, 1024], min: 256, max: 2048, step: 32, upscale: true, distance: 'ratio' },
  repeats: 1,
  asStored: false,
  alphaIsMeant: false,
};

function lint(images: readonly SurveyedImage[], input: Partial<LintInput> = {}) {
  return lintDataset({
    dataset: 'hero',
    looked: { images, uncaptioned: [], problems: [] },
    captions: new Map(),
    looks: new Map(),
    settings: usual,
    trainings: [],
    ...input,
  });
}

const told = (report: ReturnType<typeof lint>) =>
  report.findings.map(({ code, files, message }) => [code, files.map((file) => file.slice(8)).join(' '), message]);

const looksOf = (looks: { readonly [name: string]: PixelLook }) =>
  new Map(Object.entries(looks).map(([name, look]) => [image(name).digest, look]));

/** Edges in every second place, but for the first `changed` of them. */
const hash = (changed = 0, word = 'a'.repeat(64)) => '5'.repeat(changed) + word.slice(changed);
const seen = (facts: Partial<Extract<PixelLook, { hash: string }>> = {}): PixelLook => ({
  transparent: 0,
  hash: hash(),
  plain: false,
  ...facts,
});

test('pictures that look alike are told together, other pictures and plain ones are not', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'plain'];
  const looks = looksOf({
    a: seen(),
    b: seen({ hash: hash(4) }),
    c: seen({ hash: hash(8) }),
    d: seen({ hash: '0123456789abcdef'.repeat(4) }),
    e: { problem: 'the image is damaged' },
    plain: seen({ plain: true, hash: hash() }),
  });
  expect(
    told(
      lint(
        names.map((name) => image(name)),
        { looks },
      ),
    ),
  ).toEqual([
    ['unreadable', 'e', 'The pixels cannot be read: the image is damaged.'],
    // a and c differ too much by themselves; b is like both.
    ['near-duplicate', 'a b c', '3 images look alike.'],
    ['plain', 'plain', 'The image is of one color.'],
  ]);
  expect(alikePairs([hash(), hash(8)])).toEqual([]);
  expect(alikePairs(['0'.repeat(64), '0'.repeat(64)])).toEqual([]);
});

test('an alpha channel counts once its pixels are known not to be opaque', () => {
  const images = [
    image('a', { traits: ['alpha'] }),
    image('b', { traits: ['alpha'] }),
    image('c', { traits: ['alpha'] }),
  ];
  const looks = looksOf({ a: seen({ transparent: 0.25 }), b: seen({ hash: 'f0'.repeat(32) }) });
  expect(told(lint(images, { looks }))).toEqual([
    ['transparent', 'a', '25 % of the pixels are transparent.'],
    ['transparent', 'c', 'The image may have transparent pixels: it has an alpha channel.'],
  ]);
});

test('where the program says what shows through them, transparent pixels are nothing odd', () => {
  const images = [image('a', { traits: ['alpha'] }), image('b', { traits: ['alpha'] })];
  const looks = looksOf({ a: seen({ transparent: 0.25 }) });
  expect(told(lint(images, { looks, settings: { ...usual, alphaIsMeant: true } }))).toEqual([]);
});

test('masks that leave nothing, or cannot be read, are told with their file', () => {
  const mask = (name: string) => ({ path: path(name), digest: image(name).digest });
  const images = ['a', 'b', 'c', 'd'].map((name) => image(name, { mask: mask(`mask of ${name}`) }));
  const looks = looksOf({
    'mask of a': seen({ dark: true, plain: true }),
    'mask of b': seen({ dark: false, plain: true }),
    'mask of c': { problem: 'the image is damaged' },
  });
  const problems = [{ code: 'no-mask' as const, path: path('e'), message: 'The image has no mask.' }];
  expect(told(lint([], { looked: { images, uncaptioned: [], problems }, looks }))).toEqual([
    ['no-mask', 'e', 'The image has no mask.'],
    ['bad-mask', 'mask of c', 'The pixels cannot be read: the image is damaged.'],
    ['black-mask', 'mask of a', 'The mask is black all over, so nothing of its image is learned.'],
  ]);
});

test('a picture on its side is told where EXIF is ignored, and goes to the bucket of what is stored', () => {
  const images = [image('a', { orientation: 6, size: [768, 1344] })];
  expect(lint(images).buckets[0]?.size).toEqual([768, 1344]);
  const report = lint(images, { settings: { ...usual, asStored: true } });
  expect(report.buckets[0]?.size).toEqual([1344, 768]);
  expect(told(report)).toEqual([
    ['as-stored', 'a', 'EXIF says how the image is to be turned to stand upright (6), and is ignored.'],
  ]);
});

test('a tag that occurs once is told with its file, and what others have', () => {
  const captions = new Map(
    ['hero, red coat, sky', 'hero, red coat, sky', 'hero, red caot', 'hero, sky,'].map((text, at) => [
      path(`${at}`),
      text,
    ]),
  );
  expect(told(lint([], { captions }))).toEqual([
    ['rare-tag', '2', '"red caot" occurs in this caption alone. Others have "red coat".'],
  ]);
});

test('what is cropped away, enlarged or short of company is told by file', () => {
  const images = [
    ...Array.from({ length: 4 }, (_, at) => image(`square-${at}`)),
    image('small', { size: [400, 400] }),
    image('wide', { size: [4000, 400] }),
  ];
  const trainings = [{ name: 'raw', steps: 2, batchSize: 4, imagesPerStep: 2, prompts: [] }];
  const report = lint(images, { trainings });
  expect(told(report)).toEqual([
    ['small', 'small', 'The image has 400x400 pixels and is enlarged 2.6 times, to 1024x1024.'],
    ['crop', 'wide', 'To fit 2048x256, 20 % of its width (800 pixels, left and right) are cut off.'],
    ['few-visits', '', '"raw" sees 4 of 6 images: it ends within its first epoch.'],
    ['short-bucket', 'wide', 'One bucket holds fewer images than a batch of 4.'],
  ]);
  expect(report.buckets.map(({ size, visits }) => [size, visits])).toEqual([
    [[1024, 1024], 5],
    [[2048, 256], 1],
  ]);
});

test('a look that somebody else wrote is not taken', () => {
  expect(parseLook(seen())).toEqual(seen());
  for (const bad of [null, 'x', {}, { ...seen(), hash: 'xyz' }, { ...seen(), plain: 1 }])
    expect(parseLook(bad)).toBeUndefined();
});

test('where small images are not enlarged, the preview keeps their sizes, and an error names what is smaller than a step', () => {
  const images = [image('thin', { size: [20, 400] }), image('small', { size: [500, 333] })];
  const report = lint(images, {
    settings: { ...usual, bucket: { ...usual.bucket, upscale: false } },
  });
  expect(report.buckets.map(({ size, images: [one] }) => [size, one?.scale])).toEqual([[[480, 320], 1]]);
  expect(told(report)).toEqual([
    [
      'tiny',
      'thin',
      'The image has 20x400 pixels, which leaves a side with less than 32, and small images are not enlarged.',
    ],
  ]);
  expect(report.findings[0]?.severity).toBe('error');
});

test('prompts that have nothing of what nearly every caption says are told', () => {
  const images = ['a', 'b', 'c', 'd', 'e'].map((name) => image(`${name}.png`));
  const captions = new Map(images.map(({ path }, index) => [path, index < 4 ? 'foxgirl, 1girl, forest' : '1girl']));
  const training = { steps: 80, batchSize: 1, imagesPerStep: 1 };
  const apart = (prompts: readonly string[], more = captions) =>
    told(lint(images, { captions: more, trainings: [{ name: 'raw', ...training, prompts }] })).filter(
      ([code]) => code === 'prompts-apart',
    );
  expect(apart(['a cat', 'a dog'])).toEqual([
    ['prompts-apart', '', 'No prompt of "raw" has "1girl", which stands in 5 of 5 captions.'],
  ]);
  expect(apart(['a cat', 'Foxgirl in a city'])).toEqual([]);
  expect(apart([])).toEqual([]);
  expect(apart(['a cat'], new Map(images.map(({ path }, index) => [path, `scene ${index}`])))).toEqual([]);
});
