// What is left of a name that is too long for its column.

import { expect, test } from 'vitest';
import { shortName } from '../../src/tui/short-name.ts';

test('a name that fits stays as it is', () => {
  expect(shortName('small[dim=8,thr=-3]', 19)).toBe('small[dim=8,thr=-3]');
});

test('a variant keeps its values and loses the names of its sweeps', () => {
  expect(shortName('small[dim=4,unet_lr=gentle,t=-3.0]', 26)).toBe('small[4,gentle,-3.0]');
  expect(shortName('raw[dim=8,unet_lr=strong]:samples', 26)).toBe('raw[8,strong]:samples');
});

test.each([
  ['out/character-one-0.5.safetensors', 'character-one-0.5.safeten…'],
  ['out/a-character-of-mine-one-0.5.safetensors', '…haracter-of-mine-one-0.5…'],
  ['out/pictures/one-of-many-0.5.png', 'one-of-many-0.5.png'],
])('the path %s keeps its end', (path, short) => {
  expect(shortName(path, 26)).toBe(short);
});

test('the variants of one block stay different from each other', () => {
  const names = ['-3.0', '-3.55', '-4.0'].flatMap((t) =>
    ['gentle', 'strong'].flatMap((rate) => [`out/hero-${rate}${t}.safetensors`, `small[dim=4,unet_lr=${rate},t=${t}]`]),
  );
  expect(new Set(names.map((name) => shortName(name, 26))).size).toBe(names.length);
});

test('other names are left to be cut in their middle', () => {
  expect(shortName('a_block_with_a_name_that_is_long:decompose', 26)).toBe(
    'a_block_with_a_name_that_is_long:decompose',
  );
});
