// Blocks of the network, by all the names that people give them.

import { expect, test } from 'vitest';
import { blocksNamed, parseMask, SDXL, STABLE_DIFFUSION } from '../../src/parser/blocks.ts';
import { MASK_PRESETS, SD_MASK_PRESETS } from '../../src/parser/mask-presets.ts';

test('every block is known by its own name', () => {
  expect(SDXL.blocks).toHaveLength(24);
  expect(STABLE_DIFFUSION.blocks).toHaveLength(29);
  for (const network of [SDXL, STABLE_DIFFUSION]) {
    for (const block of [...network.blocks, ...[...network.layers.values()].flat()])
      expect(blocksNamed(block, network)).toEqual([block]);
  }
});

test.each([
  ['OUT1', 'OUT01'],
  ['out01', 'OUT01'],
  ['output_blocks.1', 'OUT01'],
  ['output_blocks_1', 'OUT01'],
  ['INP07', 'IN07'],
  ['IN7', 'IN07'],
  ['input_blocks.0', 'IN00'],
  ['M1', 'MID01'],
  ['MID1', 'MID01'],
  ['middle_block.2', 'MID02'],
  ['text_encoder_2', 'TE2'],
  ['TE1.3', 'TE1.3'],
  ['te2.31', 'TE2.31'],
  ['TE1.03', 'TE1.3'],
])('%s is %s', (word, block) => {
  expect(blocksNamed(word)).toEqual([block]);
});

test('groups and patterns stand for several, in the order of the network', () => {
  expect(blocksNamed('MID')).toEqual(['MID00', 'MID01', 'MID02']);
  expect(blocksNamed('IN')).toHaveLength(9);
  expect(blocksNamed('TE')).toEqual(['TE1', 'TE2']);
  expect(blocksNamed('*01')).toEqual(['IN01', 'MID01', 'OUT01']);
  expect(blocksNamed('OUT0*')).toHaveLength(9);
});

test('patterns with a dot are for layers, and no other pattern reaches one', () => {
  expect(blocksNamed('TE1.*')).toHaveLength(12);
  expect(blocksNamed('TE2.1*')).toEqual(['TE2.1', ...Array.from({ length: 10 }, (_, index) => `TE2.1${index}`)]);
  expect(blocksNamed('*.31')).toEqual(['TE2.31']);
  expect(blocksNamed('TE*')).toEqual(['TE1', 'TE2']);
  expect(blocksNamed('*1')).toEqual(['IN01', 'MID01', 'OUT01', 'TE1']);
});

test('Stable Diffusion 1 and 2 have twelve blocks on each side and one text encoder', () => {
  const named = (word: string) => blocksNamed(word, STABLE_DIFFUSION);
  expect(named('IN11')).toEqual(['IN11']);
  expect(named('output_blocks.10')).toEqual(['OUT10']);
  expect(named('TE')).toEqual(['TE']);
  expect(named('TE.3')).toEqual(['TE.3']);
  expect(named('OUT1*')).toEqual(['OUT10', 'OUT11']);
  for (const word of ['IN12', 'TE1', 'TE2.3', 'text_encoder_2']) expect([word, named(word)]).toEqual([word, undefined]);
});

test.each([
  'OUT9',
  'IN09',
  'IN10',
  'M3',
  'DOWN1',
  '',
  'FOO*',
  'toString',
  'constructor',
  'OUT01.',
  'TE1.12',
  'TE.3',
  'TE1.',
  'TE1.*x',
  'IN04.1',
])('"%s" is none', (word) => {
  expect(blocksNamed(word)).toBeUndefined();
});

test('a mask of 12 weighs the blocks with attention, one of 20 counts IN00 and one middle, one of 21 neither', () => {
  const layout = (length: number) => SDXL.masks.get(length)?.map((blocks) => blocks.join('+'));
  expect(layout(12)).toEqual([
    'TE1+TE2+REST',
    'IN04',
    'IN05',
    'IN07',
    'IN08',
    'MID01',
    'OUT00',
    'OUT01',
    'OUT02',
    'OUT03',
    'OUT04',
    'OUT05',
  ]);
  expect(layout(20)?.slice(0, 3)).toEqual(['TE1+TE2+REST', 'IN00', 'IN01']);
  expect(layout(20)?.[10]).toBe('MID00+MID01+MID02');
  expect(layout(21)?.slice(0, 2)).toEqual(['TE1+TE2+REST', 'IN01']);
  for (const { masks } of [SDXL, STABLE_DIFFUSION])
    for (const [length, entries] of masks) expect(entries).toHaveLength(length);
});

test('masks of Stable Diffusion have 17, 26 or 27 numbers', () => {
  const layout = (length: number) => STABLE_DIFFUSION.masks.get(length)?.map((blocks) => blocks.join('+'));
  expect([...STABLE_DIFFUSION.masks.keys()]).toEqual([17, 26, 27]);
  expect(layout(17)?.join(' ')).toBe(
    'TE+REST IN01 IN02 IN04 IN05 IN07 IN08 MID01 OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11',
  );
  expect(layout(26)?.slice(11, 15)).toEqual(['IN10', 'IN11', 'MID00+MID01+MID02', 'OUT00']);
  expect(layout(27)?.slice(0, 2)).toEqual(['TE+REST', 'IN01']);
  expect(layout(27)?.slice(11, 16)).toEqual(['IN11', 'MID00', 'MID01', 'MID02', 'OUT00']);
});

test("the guide's vector keeps OUT01", () => {
  const weights = parseMask('1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0').map(({ weight }) => weight);
  const kept = SDXL.masks.get(21)?.filter((_, index) => weights[index] === 1);
  expect(kept?.flat()).toEqual(['TE1', 'TE2', 'REST', 'OUT01']);
});

test('a number beyond all numbers is none', () => {
  expect(parseMask('1,1e400,-1e400,1e-400').map(({ weight }) => weight)).toEqual([1, undefined, undefined, 0]);
});

test('presets of the block-weight loader are masks by name', () => {
  const numbers = (mask: string) => parseMask(mask).map(({ weight }) => weight);
  expect([...MASK_PRESETS].map(([name, mask]) => `${name}:${mask}`)).toEqual([
    'SDXL-NONE:0,0,0,0,0,0,0,0,0,0,0,0',
    'SDXL-ALL:1,1,1,1,1,1,1,1,1,1,1,1',
    'SDXL-INALL:1,1,1,1,1,0,0,0,0,0,0,0',
    'SDXL-MIDALL:1,0,0,0,0,1,0,0,0,0,0,0',
    'SDXL-OUTALL:1,0,0,0,0,0,1,1,1,1,1,1',
    'SDXL-LyC-NONE:0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0',
    'SDXL-LyC-ALL:1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1',
    'SDXL-LyC-INALL:1,1,1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0',
    'SDXL-LyC-MIDALL:1,0,0,0,0,0,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0',
    'SDXL-LyC-OUTALL:1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1',
  ]);
  for (const name of SD_MASK_PRESETS.keys())
    expect([name, numbers(name).length]).toEqual([name, name.startsWith('SD-LyC') ? 27 : 17]);
  expect(SD_MASK_PRESETS.get('SD-INALL')).toBe('1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0');
  expect(SD_MASK_PRESETS.get('SD-IND')).toBe('1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0');
  expect(SD_MASK_PRESETS.get('SD-MIDD0.2')).toBe('1,0,0,0,0,0,0.2,0.4,0.4,0.2,0,0,0,0,0,0,0');
  expect(SD_MASK_PRESETS.get('SD-MOUT')).toBe('1,0,0,0,0,0,1,1,1,1,1,1,1,1,0.5,0,0');
  expect(SD_MASK_PRESETS.get('SD-LyC-MIDALL')).toBe('1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0');
  for (const [name, mask] of MASK_PRESETS) {
    expect(numbers(name.toLowerCase())).toEqual(numbers(mask));
    expect(numbers(`mine:${mask}`)).toEqual(numbers(mask));
  }
  expect(parseMask('a:1,x')).toMatchObject([{ offset: 2 }, { text: 'x', offset: 4 }]);
});

test('entries of a mask know where they stand, and whether they are numbers', () => {
  expect(parseMask('1, -0.5 ,x,')).toEqual([
    { text: '1', offset: 0, weight: 1 },
    { text: '-0.5', offset: 3, weight: -0.5 },
    { text: 'x', offset: 9, weight: undefined },
    { text: '', offset: 11, weight: undefined },
  ]);
});
