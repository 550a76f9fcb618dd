// What people write behind `lorac chop`, as choices of blocks.

import { expect, test } from 'vitest';
import { readChoice, type WrittenChoice } from '../../src/cli/block-choice.ts';
import { UsageError } from '../../src/cli/usage-error.ts';
import { SDXL, STABLE_DIFFUSION } from '../../src/parser/blocks.ts';
import { blockWeights } from '../../src/runtime/sdxl/block-weights.ts';

const file = { network: SDXL, present: SDXL.blocks.filter((block) => block !== 'IN00' && block !== 'REST') };
const oldFile = { network: STABLE_DIFFUSION, present: STABLE_DIFFUSION.blocks };

function weightsOf(written: WrittenChoice) {
  const chosen = readChoice(written, file);
  if (chosen === undefined) throw new Error('nothing was chosen');
  const { REST: _, ...weights } = blockWeights(chosen.choice);
  return weights;
}

const out01 = { OUT01: 1, TE1: 1, TE2: 1 };

test.each<[string, WrittenChoice, object]>([
  ['a vector of 21', { vector: '1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0' }, out01],
  ['a vector of 20', { vector: '1,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0' }, out01],
  ['a vector of 12', { vector: '1,0,0,0,0,0,0,1,0,0,0,0' }, out01],
  ['a labelled vector', { vector: 'OUT1:1,0,0,0,0,0,0,1,0,0,0,0' }, out01],
  ['a preset', { vector: 'SDXL-LyC-MIDALL' }, { MID00: 1, MID01: 1, MID02: 1, TE1: 1, TE2: 1 }],
  ['a % vector', { vector: '%default=0,base=1,out2=1' }, out01],
  ['a % vector without text encoders', { vector: '%default=0,out2=1,base=1', textEncoders: 'drop' }, { OUT01: 1 }],
  ['names', { keep: 'OUT01, M1' }, { MID01: 1, ...out01 }],
  ['names without text encoders', { keep: 'OUT1', textEncoders: 'drop' }, { OUT01: 1 }],
  ['a pattern', { keep: 'OUT0*', textEncoders: '0.5' }, { ...outs(), TE1: 0.5, TE2: 0.5 }],
  ['what goes', { drop: 'IN,MID,TE' }, outs()],
  ['weights', { weights: 'OUT01=1, MID00 = 0.5' }, { MID00: 0.5, ...out01 }],
  [
    'a vector of zeros with text encoders kept',
    { vector: '0,0,0,0,0,0,0,0,0,0,0,0', textEncoders: 'keep' },
    { TE1: 1, TE2: 1 },
  ],
])('%s', (_, written, expected) => {
  expect(weightsOf(written)).toEqual(expected);
});

function outs(): object {
  return Object.fromEntries(SDXL.blocks.filter((block) => block.startsWith('OUT')).map((block) => [block, 1]));
}

test('text encoders alone can be taken out, and nothing said is nothing chosen', () => {
  expect(Object.keys(weightsOf({ textEncoders: 'drop' }))).toHaveLength(21);
  expect(readChoice({}, file)).toBeUndefined();
});

test('a first number other than 1 is warned about, since tools differ', () => {
  const vector = '0.5,0,0,0,0,0,0,1,0,0,0,0';
  expect(readChoice({ vector }, file)?.warnings).toEqual([expect.stringContaining('chop_blocks takes it as a factor')]);
  expect(readChoice({ vector, textEncoders: 'keep' }, file)?.warnings).toEqual([]);
});

test.each<[WrittenChoice, string | RegExp]>([
  [{ keep: 'OUT01', drop: 'IN' }, '--keep and --drop both say which blocks stay.'],
  [{ vector: '1,0,1' }, 'The vector has 3 numbers, and vectors for SDXL have 12, 20 or 21.'],
  [{ vector: '1,R,0,0,0,0,0,0,0,0,0,0' }, /"R" in a vector stands for a number that ComfyUI's node draws/],
  [{ vector: '1,0 1 0,0,0,0,0,0,0,0,0,0,0' }, /"0 1 0" weighs single tensors/],
  [{ vector: 'OUT01,MID' }, 'A vector has numbers, and "OUT01" is none.'],
  [{ vector: 'SDXL-LyC-OUTAL' }, '"SDXL-LyC-OUTAL" is neither a number nor a preset.'],
  [{ vector: '%up=1' }, /"up=1" is no item of a % vector/],
  [{ keep: 'OUT99' }, 'There is no block "OUT99" in SDXL.'],
  [{ keep: ' , ' }, '--keep names no block.'],
  [{ weights: 'OUT01' }, '--weights needs BLOCK=NUMBER, and "OUT01" is not that.'],
  [{ weights: 'OUT01=1,OUT01=0.5' }, '--weights has "OUT01" twice.'],
  [{ weights: 'IN=1,OUT01=1,IN0*=0.5' }, '--weights has "IN0*" twice.'],
  [{ weights: 'OUT01=1,output_blocks.1=0.5' }, '--weights has "output_blocks.1" twice.'],
  [{ textEncoders: 'some' }, '--text-encoders needs keep, drop or a weight, and "some" is none of them.'],
])('%o is refused', (written, message) => {
  expect(() => readChoice(written, file)).toThrow(UsageError);
  expect(() => readChoice(written, file)).toThrow(message);
});

test.each<[string, WrittenChoice, object]>([
  ['a vector of 17', { vector: '1,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0.5' }, { OUT03: 1, OUT11: 0.5, TE: 1, REST: 1 }],
  ['a vector of 26', { vector: `0,${Array(12).fill(0)},1,${Array(12).fill(0)}` }, { MID00: 1, MID01: 1, MID02: 1 }],
  ['a vector of 27', { vector: `0,1,${Array(24).fill(0)},1` }, { IN01: 1, OUT11: 1 }],
  ['a preset', { vector: 'sd-inall', textEncoders: 'drop' }, { ...attentive('IN'), REST: 1 }],
  ['a % vector', { vector: '%default=0,in12=1' }, { IN11: 1 }],
  ['names', { keep: 'IN10,TE.3', textEncoders: 'drop' }, { IN10: 1, 'TE.3': 1 }],
])('of Stable Diffusion: %s', (_, written, expected) => {
  const chosen = readChoice(written, oldFile);
  expect(blockWeights(chosen?.choice ?? {}, STABLE_DIFFUSION)).toEqual(expected);
});

function attentive(section: string): object {
  const blocks = STABLE_DIFFUSION.masks.get(17)?.flat() ?? [];
  return Object.fromEntries(blocks.filter((block) => block.startsWith(section)).map((block) => [block, 1]));
}

test('names and vectors of the other network are refused', () => {
  expect(() => readChoice({ keep: 'TE2' }, oldFile)).toThrow('There is no block "TE2" in Stable Diffusion 1 and 2.');
  expect(() => readChoice({ keep: 'IN09' }, file)).toThrow('There is no block "IN09" in SDXL.');
  expect(() => readChoice({ vector: 'SDXL-ALL' }, oldFile)).toThrow('have 17, 26 or 27');
  expect(() => readChoice({ vector: 'SD-ALL' }, file)).toThrow('have 12, 20 or 21');
});
