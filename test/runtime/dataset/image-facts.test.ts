// Sizes against Pillow's, and every way in which a file can be less than an image.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { imageFacts } from '../../../src/runtime/dataset/image-facts.ts';
import { pngOf } from '../../helpers/pictures.ts';

const folder = 'test/fixtures/images';
const upright: { readonly [file: string]: readonly [number, number] } = JSON.parse(
  readFileSync(join(folder, 'upright-sizes.json'), 'utf8'),
);
const pictures = readdirSync(folder).filter((file) => !file.endsWith('.json'));
const bytesOf = (file: string) => readFileSync(join(folder, file));

test.each(pictures)('%s is as large as Pillow shows it', (file) => {
  expect(imageFacts(bytesOf(file))).toMatchObject({ ok: true, size: upright[file] });
});

test.each([
  ['plain.jpg', []],
  ['plain.png', []],
  ['palette.png', []],
  ['plain.webp', []],
  ['cmyk.jpg', ['cmyk']],
  ['alpha.png', ['alpha']],
  ['animated.webp', ['alpha', 'animated']],
])('what the header of %s tells besides: %j', (file, traits) => {
  expect(imageFacts(bytesOf(file))).toMatchObject({ orientation: 1, traits });
});

test('a picture that lies on its side says how it is turned', () => {
  expect(imageFacts(bytesOf('turned.jpg'))).toMatchObject({ orientation: 8 });
});

test('a PNG of 16 bits, one with frames, and one with a transparent color are known', () => {
  const pixels = { width: 16, height: 16 };
  expect(imageFacts(pngOf({ ...pixels, depth: 16 }))).toMatchObject({ traits: ['deep'] });
  expect(imageFacts(pngOf({ ...pixels, chunks: { acTL: [0, 0, 0, 2, 0, 0, 0, 0] } }))).toMatchObject({
    traits: ['animated'],
  });
  expect(imageFacts(pngOf({ ...pixels, chunks: { tRNS: [0, 0] } }))).toMatchObject({ traits: ['alpha'] });
});

describe.each(['plain.png', 'progressive.jpg', 'restarts.jpg', 'plain.webp', 'turned.webp'])('%s', (file) => {
  const bytes = bytesOf(file);

  test('is refused when cut off anywhere', () => {
    for (let length = 0; length < bytes.length; length += 1) {
      const facts = imageFacts(bytes.subarray(0, length));
      expect(facts, `${length} of ${bytes.length} bytes`).toMatchObject({ ok: false });
    }
  });

  test('never breaks the reader when bytes are wrong', () => {
    const change = fc.tuple(fc.nat({ max: bytes.length - 1 }), fc.nat({ max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
        const changed = Buffer.from(bytes);
        for (const [at, value] of changes) changed[at] = value;
        const facts = imageFacts(changed);
        if (!facts.ok) expect(facts.problem).toMatch(/^The (file|image) /);
      }),
    );
  });
});

test('a wrong checksum in a PNG is noticed', () => {
  const bytes = Buffer.from(bytesOf('plain.png'));
  const pixels = bytes.indexOf('IDAT') + 8;
  bytes[pixels] = (bytes[pixels] ?? 0) ^ 1;
  expect(imageFacts(bytes)).toEqual({ ok: false, problem: 'The image is damaged: a checksum is wrong ("IDAT").' });
});

test('what is no image is told by its content, not by its name', () => {
  expect(imageFacts(Buffer.alloc(0))).toEqual({ ok: false, problem: 'The file is empty (0 bytes).' });
  const page = { ok: false, problem: 'The file is not a PNG, JPEG or WebP image.' };
  expect(imageFacts(Buffer.from('<html>'))).toEqual(page);
  expect(imageFacts(Buffer.from('GIF89a'))).toEqual(page);
});

test('a speck is too small', () => {
  expect(imageFacts(pngOf({ width: 7, height: 40 }))).toEqual({
    ok: false,
    problem: 'The image is too small (7x40 pixels).',
  });
});
