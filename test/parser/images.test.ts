// Settings of a dataset that say what becomes of its pictures.

import { expect, test } from 'vitest';
import { parseColor } from '../../src/parser/color.ts';
import { blockOf, expectProblems, fixAll } from './marked.ts';

const dataset = (attributes: string) => `dataset hero { images = "images"  ${attributes} }`;

test('colors are three numbers, in long, in short and by name', () => {
  expect(parseColor('#8040ff')).toEqual([128, 64, 255]);
  expect(parseColor(' #F80 ')).toEqual([255, 136, 0]);
  expect(parseColor('white')).toEqual([255, 255, 255]);
  for (const none of ['', '#', '#12', '#12345', '8040ff', '#gggggg', 'reddish', 'constructor'])
    expect(parseColor(none), none).toBeUndefined();
});

test('what shows through is a word or a color, and the rest is told', () => {
  const written = (value: string) => blockOf(dataset(`transparency = ${value}`), 'dataset').attributes.transparency;
  expect(['ignore', 'black', '"#fff"', '"black"'].map(written)).toEqual(['ignore', 'black', '#fff', 'black']);
  expectProblems(['odd-color'], dataset('transparency = «"reddish"»'));
  expectProblems(['odd-color'], dataset('transparency = «"#12345"»'));
  expectProblems(['wrong-type'], dataset('transparency = «reddish»'));
  expect(fixAll(dataset('transparency = "ignore"'))).toBe(dataset('transparency = ignore'));
});

test('the words of other trainers are understood', () => {
  expect(fixAll(dataset('resize_interpolation = area'))).toBe(dataset('resize_filter = area'));
});
