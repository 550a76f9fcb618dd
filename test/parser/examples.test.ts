// The programs that come with lorac, and the two that DESIGN promises to be one and the same.

import { globSync, readFileSync } from 'node:fs';
import { expect, expectTypeOf, test } from 'vitest';
import type { AttributesOf, ProgramPath } from '../../src/parser/model.ts';
import type { TrainSettings } from '../../src/runtime/worker/protocol.ts';
import { blockOf, compileText } from './marked.ts';

const root = new URL('../../', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), 'utf8');
const tenMinute = read('examples/ten-minute/ten-minute.lora');
const hero = read('examples/short/hero.lora');

test.each(globSync('examples/**/*.lora', { cwd: root }))('%s checks without a word', (path) => {
  expect(compileText(read(path)).diagnostics).toEqual([]);
});

const places = ['span', 'writtenIn'];

/** What is said, and not where, so that two programs can be compared. */
function plain(attributes: object): unknown {
  return JSON.parse(JSON.stringify(attributes, (key, value) => (places.includes(key) ? undefined : value)));
}

test('the settings of the ten-minute program are the defaults: both programs resize and chop alike', () => {
  for (const kind of ['resize', 'chop'] as const) {
    expect(plain(blockOf(tenMinute, kind).attributes)).toEqual(plain(blockOf(hero, kind).attributes));
  }
});

test('both programs train alike but for save_every and sample', () => {
  const { save_every, sample, data, ...rest } = blockOf(tenMinute, 'train').attributes;
  const { save_every: usually, sample: none, data: other, ...short } = blockOf(hero, 'train').attributes;
  expect(plain(rest)).toEqual(plain(short));
  expect([save_every, usually]).toEqual([1, 10]);
  expect(sample).toMatchObject({
    every: 10,
    prompts: { text: '/training_dir/sample-prompts.txt' },
    sampler: 'euler_a',
  });
  expect(none).toBeUndefined();
  expect([data.block, other.block]).toEqual(['character', 'hero']);
});

test('the datasets of both programs differ only in where their images are', () => {
  const { images, ...rest } = blockOf(tenMinute, 'dataset').attributes;
  const { images: folder, ...short } = blockOf(hero, 'dataset').attributes;
  expect(rest).toEqual(short);
  expect([images, folder]).toMatchObject([
    { text: '/training_dir/**/*.{png,jpg,jpeg,webp}' },
    { text: 'training_dir' },
  ]);
});

test('every attribute of the short program is the default that the reference names', () => {
  expect(plain(blockOf(hero, 'train').attributes)).toMatchSnapshot();
  expect(plain(blockOf(hero, 'resize').attributes)).toMatchSnapshot();
});

test('the order of blocks, comments and line breaks change no attribute', () => {
  const reversed = hero.trim().split('\n').toReversed().join('   # a comment\n\n');
  const oneLine = hero.replaceAll('\n', ', ').replaceAll(/},/g, '}');
  for (const kind of ['checkpoint', 'dataset', 'train', 'resize', 'chop', 'save'] as const) {
    const wanted = plain(blockOf(hero, kind).attributes);
    expect(plain(blockOf(reversed, kind).attributes)).toEqual(wanted);
    expect(plain(blockOf(oneLine, kind).attributes)).toEqual(wanted);
  }
});

test('a checked train block fits what the worker is told', () => {
  // What the noise is divided by is known once parity is.
  type Told = Omit<TrainSettings, 'captions' | 'noise' | 'regularization' | 'resolution'>;
  expectTypeOf<AttributesOf<'train'>>().toExtend<Told>();
  expectTypeOf<AttributesOf<'dataset'>['images']>().toEqualTypeOf<ProgramPath | readonly ProgramPath[]>();
  expectTypeOf<AttributesOf<'chop'>['text_encoders']>().toEqualTypeOf<'keep' | 'drop' | number>();
  expectTypeOf<AttributesOf<'resize'>['fro_ckpt']>().toEqualTypeOf<number | undefined>();
});
