// `raw@40`: one of the LoRAs that a training saves, wherever a LoRA is asked for.

import { describe, expect, test } from 'vitest';
import { around, blockOf, compileText, expectProblems, fixAll, hintsOf } from './marked.ts';

const trained = `${around}train raw { base = pony  data = hero  steps = 80 }`;
const errorsOf = (text: string) => compileText(text).diagnostics.map(({ code }) => code);

test('a step of a training stands wherever a LoRA is asked for', () => {
  const { from } = blockOf(`${trained} resize small { from = raw@40 }`, 'resize').attributes;
  expect(from).toMatchObject({ kind: 'reference', block: 'raw', step: { kind: 'step', step: 40 } });
  for (const block of [
    'chop tiny { from = raw@40  keep = [OUT01] }',
    'merge both { from = [raw@40, raw@80, raw] }',
    'preview grid { loras = [raw@20, raw@40]  prompts = "p.txt" }',
    'analyze what { from = raw@40 }',
    'save "early.safetensors" { from = raw@40 }',
  ]) {
    expect(errorsOf(`${trained} ${block}`), block).toEqual([]);
  }
});

test('a let names a step, also as a part of a sum with weights', () => {
  const text = `${trained} let early = raw@40  merge both { from = { early = 0.5  raw = 0.5 } }`;
  const { from } = blockOf(text, 'merge').attributes;
  expect(from.map(({ block, step, weight }) => [block, step, weight])).toEqual([
    ['raw', { kind: 'step', step: 40 }, 0.5],
    ['raw', undefined, 0.5],
  ]);
});

test('one step twice in a list is pointed at, and two steps are two LoRAs', () => {
  expectProblems(['duplicate-item'], `${trained} merge both { from = [raw@40, «raw@40»] }`);
  expect(errorsOf(`${trained} merge both { from = [raw@40, raw@41] }`)).toEqual([]);
});

describe('what is no step', () => {
  test('beyond the last', () => {
    const [found] = expectProblems(['step-beyond'], `${trained} resize a { from = «raw@81» }`);
    expect(found?.message).toBe('"raw" has 80 steps, so there is no step 81.');
    expect(found?.hint).toBe('Write a step from 1 to 80, or raw for the last.');
  });

  test.each(['raw@0', 'raw@1.5', 'raw@middle', 'raw@last(3)'])('%s', (written) => {
    const text = `${trained} resize a { from = ${written} }`;
    expect(errorsOf(text)).toEqual(['odd-choice']);
    expect(hintsOf(text)[0]).toContain('raw@40');
  });

  test('of a block that is not trained', () => {
    const text = `${trained} resize small { from = raw }  chop tiny { from = «small@40»  keep = [OUT01] }`;
    const [found] = expectProblems(['no-step-choice'], text);
    expect(found?.message).toContain('"small" is a LoRA without steps');
    expect(errorsOf(fixAll(text.replaceAll(/[«»]/g, '')))).toEqual([]);
  });

  test('of a block that does not exist, or where no LoRA is asked for', () => {
    expect(errorsOf(`${trained} resize a { from = rwa@40 }`)).toEqual(['unknown-name']);
    expect(errorsOf(`${around} train raw { base = pony@3  data = hero }`)).toEqual(['no-step-choice']);
    expect(errorsOf(`${trained} resize a { from = raw  thr = raw@40 }`)).toEqual(['no-step-choice']);
  });
});

describe('the best step', () => {
  const measured = trained.replace('steps = 80', 'steps = 80  validation = { share = 0.1 }');

  test('is one where something is held out', () => {
    const { from } = blockOf(`${measured} resize small { from = raw@best }`, 'resize').attributes;
    expect(from.step).toEqual({ kind: 'best' });
    const [found] = expectProblems(['no-best'], `${trained} resize small { from = «raw@best» }`);
    expect(found?.hint).toBe('Write in it: validation = { share = 0.1 }');
  });

  test('either a share of the images is held out, or another dataset', () => {
    const of = (validation: string) => `${around} dataset apart { images = "apart" }
      train raw { base = pony  data = hero  validation = ${validation} }`;
    expect(errorsOf(of('{ data = apart  every = 5 }'))).toEqual([]);
    expect(errorsOf(of('{ share = 0.2  timesteps = [100, 900] }'))).toEqual([]);
    expect(errorsOf(of('{ every = 5 }'))).toEqual([]);
    expectProblems(['held-out-images'], of('«{ data = apart  share = 0.2 }»'));
    expectProblems(['held-out-learned'], of('{ data = «hero» }'));
    expect(errorsOf(of('{ share = 1 }'))).toEqual(['out-of-range']);
    expect(errorsOf(of('{ share = 0.1  timesteps = [1000] }'))).toEqual(['out-of-range']);
    expect(errorsOf(of('{ share = 0.1  timesteps = [] }'))).toEqual(['empty-list']);
  });
});

describe('the average of the saved steps', () => {
  test('has a decay between 0 and 1', () => {
    const { from } = blockOf(`${trained} resize small { from = raw@ema(0.9) }`, 'resize').attributes;
    expect(from.step).toEqual({ kind: 'ema', decay: 0.9 });
    expect(errorsOf(`${trained} let d = 0.5  resize small { from = raw@ema(d) }`)).toEqual([]);
    for (const odd of ['0', '1', '1.5']) {
      expect(errorsOf(`${trained} resize small { from = raw@ema(${odd}) }`)).toEqual(['out-of-range']);
    }
    expect(errorsOf(`${trained} resize small { from = raw@ema("x") }`)).toEqual(['wrong-type']);
    expect(errorsOf(`${trained} resize small { from = raw@ema() }`)).toEqual(['odd-choice']);
    expect(errorsOf(`${trained} resize small { from = raw@ema(0.9, 0.8) }`)).toEqual(['odd-choice']);
  });

  test('of one saved step there is none', () => {
    const seldom = trained.replace('steps = 80', 'steps = 80  save_every = 80');
    expectProblems(['average-of-one'], `${seldom} resize small { from = «raw@ema(0.9)» }`);
  });
});

describe('the average that is kept while it trains', () => {
  const keeping = trained.replace('steps = 80', 'steps = 80  ema = 0.999');

  test('is there where the training keeps one', () => {
    const { from } = blockOf(`${keeping} resize small { from = raw@ema }`, 'resize').attributes;
    expect(from.step).toEqual({ kind: 'kept-ema' });
    expect(errorsOf(`${keeping} merge both { from = [raw, raw@ema, raw@ema(0.9)] }`)).toEqual([]);
    expectProblems(['duplicate-item'], `${keeping} merge both { from = [raw@ema, «raw@ema»] }`);
    const [found] = expectProblems(['no-kept-average'], `${trained} resize small { from = «raw@ema» }`);
    expect(found?.hint).toBe('Write ema = 0.99 in it, or raw@ema(0.9) for the average of the steps that it saves.');
  });

  test('has a decay between 0 and 1', () => {
    for (const odd of ['0', '1', '-0.5']) {
      expect(errorsOf(trained.replace('steps = 80', `steps = 80  ema = ${odd}`)), odd).toEqual(['out-of-range']);
    }
    expect(errorsOf(trained.replace('steps = 80', 'steps = 80  ema = true'))).toEqual(['wrong-type']);
  });
});
