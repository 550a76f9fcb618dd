// Numbers with a unit: understood where it fits, and told where it does not.

import { describe, expect, test } from 'vitest';
import { printDiagnostics } from '../../src/parser/diagnostics/print-diagnostic.ts';
import { blockOf, compileText, expectProblems, fixAll, hintsOf, trainWith } from './marked.ts';

const dataset = (attributes: string) => blockOf(`dataset d { images = "i" ${attributes} }`, 'dataset').attributes;
const resize = (attributes: string, more = '') =>
  blockOf(`${more} lora l { path = "l.safetensors" } resize r { from = l  spn_lora = 1 ${attributes} }`, 'resize')
    .attributes;

describe('units that fit', () => {
  test('pixels, where pixels are counted', () => {
    expect(dataset('bucket = { min = 512px  max = 1_024px  step = 64px }').bucket).toMatchObject({
      min: 512,
      max: 1024,
      step: 64,
    });
  });

  test('bytes, where MiB are counted', () => {
    expect(resize('size = 20MiB').size).toBe(20);
    expect(resize('size = 20').size).toBe(20);
    expect(resize('size = 0.5GiB').size).toBe(512);
    expect(resize('size = 512KiB').size).toBe(0.5);
    expect(resize('size = 20MB').size).toBeCloseTo(19.0735, 4);
    expect(resize('size = 2kB').size).toBe(resize('size = 2KB').size);
  });

  test('percent, where there is a share: the very number that it is', () => {
    for (const [percent, share] of [
      ['12%', 0.12],
      ['1.1%', 0.011],
      ['100%', 1],
      ['.5%', 0.005],
      ['1e1%', 0.1],
    ] as const) {
      expect(dataset(`caption_dropout_rate = ${percent}`).caption_dropout_rate).toBe(share);
    }
    expect(resize('sv_fro = 90%').sv_fro).toBe(0.9);
    const warmup = (written: string) =>
      blockOf(trainWith(`lr_scheduler = linear { warmup = ${written} }`), 'train').attributes.lr_scheduler;
    expect(warmup('10%')).toEqual(warmup('"10%"'));
    expect(warmup('10%')).toEqual(warmup('0.1'));
  });

  test('durations of several parts', () => {
    const every = (written: string) => blockOf(trainWith(`state_every = ${written}`), 'train').attributes.state_every;
    expect(every('1h30min')).toEqual({ seconds: 5400 });
    expect(every('1h30min15s')).toEqual({ seconds: 5415 });
    expect(every('2min30s')).toEqual({ seconds: 150 });
    expect(every('1h5s')).toEqual({ seconds: 3605 });
    expect(every('1.5h')).toEqual({ seconds: 5400 });
  });

  test('through the name of a let', () => {
    expect(resize('sv_fro = p', 'let p = 5%').sv_fro).toBe(0.05);
  });

  test('from the command line', () => {
    const text = 'param p = 0.1  dataset d { images = "i"  caption_dropout_rate = p }';
    expect(blockOf(text, 'dataset', { p: '5%' }).attributes.caption_dropout_rate).toBe(0.05);
  });

  test('in a sweep, which calls its variants by them', () => {
    const { program } = compileText('dataset d { images = "i"  caption_dropout_rate = sweep [5%, 10%] }');
    expect(program?.blocks.map(({ name }) => name)).toEqual([
      'd[caption_dropout_rate=5%]',
      'd[caption_dropout_rate=10%]',
    ]);
  });
});

describe('units that do not fit', () => {
  test('are told with those that would', () => {
    const { diagnostics } = compileText(`dataset d { images = "i"  repeats = 3px  caption_dropout_rate = 5px
      bucket = { min = 50%  max = 2GB } }
      ${trainWith('steps = 10%  state_every = 12%  lr_scheduler = linear { warmup = 5px }')}`);
    expect(printDiagnostics(diagnostics)).toMatchInlineSnapshot(`
      "test.lora:1:37 error: "3px" has a unit that "repeats" does not take. [wrong-unit]
        1 | dataset d { images = "i"  repeats = 3px  caption_dropout_rate = 5px
          |                                     ^^^
          = hint: It takes no unit.

      test.lora:1:65 error: "5px" has a unit that "caption_dropout_rate" does not take. [wrong-unit]
        1 | dataset d { images = "i"  repeats = 3px  caption_dropout_rate = 5px
          |                                                                 ^^^
          = hint: It is a share, as in 0.1 or 10%.

      test.lora:2:24 error: "50%" has a unit that "min" does not take. [wrong-unit]
        2 |       bucket = { min = 50%  max = 2GB } }
          |                        ^^^
          = hint: It counts pixels, as in 1024 or 1024px.

      test.lora:2:35 error: "2GB" has a unit that "max" does not take. [wrong-unit]
        2 |       bucket = { min = 50%  max = 2GB } }
          |                                   ^^^
          = hint: It counts pixels, as in 1024 or 1024px.

      test.lora:8:9 error: "10%" has a unit that "steps" does not take. [wrong-unit]
        8 | steps = 10%  state_every = 12%  lr_scheduler = linear { warmup = 5px }
          |         ^^^
          = hint: It takes no unit.

      test.lora:8:28 error: "state_every" needs a duration such as 5min or a number of steps, and this is a number of percent. [wrong-type]
        8 | steps = 10%  state_every = 12%  lr_scheduler = linear { warmup = 5px }
          |                            ^^^

      test.lora:8:66 error: "5px" has a unit that "warmup" does not take. [wrong-unit]
        8 | steps = 10%  state_every = 12%  lr_scheduler = linear { warmup = 5px }
          |                                                                  ^^^
          = hint: It is a number of steps, or a share of them, as in 0.1 or 10%."
    `);
  });

  test('ranges hold with units too', () => {
    expectProblems(['out-of-range'], 'dataset d { images = "i"  caption_dropout_rate = «120%» }');
    expectProblems(['out-of-range'], 'dataset d { images = "i"  bucket = { min = «100px» } }');
    expectProblems(['share-too-large'], trainWith('lr_scheduler = linear { warmup = «100%» }'));
  });

  test('in arithmetic there are none', () => {
    expectProblems(['wrong-type'], 'dataset d { images = "i"  caption_dropout_rate = «5%» * 2 }');
  });

  test('what is no unit is told with those that are', () => {
    expectProblems(['odd-number'], 'dataset d { images = "i"  repeats = «3apples» }');
    expect(hintsOf('dataset d { images = "i"  bucket = { min = 512pixels } }')).toEqual(['Write 512px']);
    expect(fixAll('dataset d { images = "i"  bucket = { min = 512pixels } }')).toContain('min = 512px }');
    expectProblems(['odd-number'], trainWith('state_every = «30min1h»'));
    expectProblems(['wrong-type'], 'dataset d { images = "i"  resolution = «1024px» }');
    expect(hintsOf('dataset d { images = "i"  resolution = 1024px }')).toEqual(['Write 1024x1024']);
  });
});
