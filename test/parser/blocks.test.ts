// Blocks of the network, by all the names that people give them.

import { expect, test } from 'vitest';
import { BLOCKS, blocksNamed, MASKS, parseMask } from '../../src/parser/blocks.ts';
import { MASK_PRESETS } from '../../src/parser/mask-presets.ts';

test('every block is known by its own name', () => {
  expect(BLOCKS).toHaveLength(24);
  for (const block of BLOCKS) expect(blocksNamed(block)).toEqual([block]);
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

test.each(['OUT9', 'IN10', 'M3', 'DOWN1', '', 'FOO*', 'toString', 'constructor', 'OUT01.'])('"%s" is none', (word) => {
  expect(blocksNamed(word)).toBeUndefined();
});

test('a mask of 12 weighs the blocks with attention, one of 20 counts IN00 and one middle, one of 21 neither', () => {
  const layout = (length: number) => MASKS.get(length)?.map((blocks) => blocks.join('+'));
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
  for (const [length, entries] of MASKS) expect(entries).toHaveLength(length);
});

test("the guide's vector keeps OUT01", () => {
  const weights = parseMask('1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0').map(({ weight }) => weight);
  const kept = MASKS.get(21)?.filter((_, index) => weights[index] === 1);
  expect(kept?.flat()).toEqual(['TE1', 'TE2', 'REST', 'OUT01']);
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
