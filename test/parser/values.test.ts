// How values are written, and what they become.

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: interpolation is what is tested.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeNumber, writeText } from '../../src/parser/reading/literals.ts';
import { around, blockOf, compileText, expectProblems, hintsOf, trainWith } from './marked.ts';

const train = (attributes: string, more = '') => blockOf(trainWith(attributes, more), 'train').attributes;
const saveus = (attributes: string, more = '') => {
  const { optimizer } = train(attributes, more);
  if (optimizer.kind !== 'SAVEUS') throw new Error('Another optimizer is not what these tests are about.');
  return optimizer;
};
const path = (value: string, more = '') =>
  blockOf(`${more} checkpoint a { path = ${value} }`, 'checkpoint').attributes.path.text;

describe('numbers', () => {
  test('a number reads back as it was written, whatever it is', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const read = saveus(`optimizer = SAVEUS { amp_fac = ${writeNumber(value)} }`).amp_fac;
        expect(Object.is(read, value) || (read === 0 && value === 0)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('may be grouped, shortened, written with an exponent or a point first', () => {
    expect(train('seed = 1_000_000').seed).toBe(1_000_000);
    expect(train('unet_lr = 3e-4 text_encoder_lr = .5E-3').unet_lr).toBe(3e-4);
    expect(train('text_encoder_lr = .5E-3').text_encoder_lr).toBe(0.0005);
    expect(train('max_grad_norm = 2.').max_grad_norm).toBe(2);
  });

  test('arithmetic follows the rules of school, and "**" groups from the right', () => {
    const cases: readonly (readonly [string, number])[] = [
      ['1 + 2 * 3', 7],
      ['(1 + 2) * 3', 9],
      ['10 - 4 - 3', 3],
      ['2 ** 3 ** 2', 512],
      ['-2 ** 2 + 5', 1],
      ['2 ** -1 * 2', 1],
      ['12 / 3 / 2', 2],
      ['- -3', 3],
      ['+4', 4],
    ];
    for (const [written, value] of cases) expect(train(`max_grad_norm = ${written}`).max_grad_norm).toBe(value);
  });

  test('arithmetic of the checker and of JavaScript agree', () => {
    const { tree } = fc.letrec<{ tree: string }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.nat({ max: 9 }).map(String),
        fc.tuple(tie('tree'), fc.constantFrom('+', '-', '*'), tie('tree')).map(([a, op, b]) => `(${a} ${op} ${b})`),
        fc
          .tuple(fc.nat({ max: 9 }), fc.constantFrom('+', '-', '*'), tie('tree'))
          .map(([a, op, b]) => `${a} ${op} ${b}`),
      ),
    }));
    fc.assert(
      fc.property(tree, (written) => {
        const wanted = Number(Function(`return ${written}`)());
        expect(saveus(`optimizer = SAVEUS { amp_fac = ${written} }`).amp_fac).toBe(wanted);
      }),
      { numRuns: 150 },
    );
  });

  test('a result that is no number is pointed at', () => {
    expectProblems(['not-computable'], trainWith('unet_lr = «1 / 0»'));
  });

  test('ranges and whole numbers are checked, and the message names the limits', () => {
    const [below, fraction, open, many] = expectProblems(
      ['out-of-range', 'out-of-range', 'out-of-range', 'out-of-range'],
      trainWith('steps = «0»\nbatch_size = «1.5»\noptimizer = SAVEUS { betas = [0.9, «1»]  eps = «-1» }'),
    );
    expect(below?.message).toBe('"steps" is at least 1, and this is 0.');
    expect(fraction?.message).toBe('"batch_size" is a whole number, and this is 1.5.');
    expect(open?.message).toBe('"betas" is at least 0 and below 1, and this is 1.');
    expect(many?.message).toBe('"eps" is above 0, and this is -1.');
  });
});

describe('text', () => {
  test('any text on one line reads back as it was written', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        fc.pre(text.trim() !== '' && !/[\n\r\t\0]/.test(text));
        expect(path(writeText(text))).toBe(text);
      }),
      { numRuns: 80 },
    );
  });

  test('in single quotes is as it stands', () => {
    expect(path("'C:\\pics\\${x}'")).toBe('C:\\pics\\${x}');
  });

  test('between ${ and } stands any expression', () => {
    const more = 'let name = "a" let n = 2 let side = 64x32 let deep = "<${name}>"';
    expect(path('"${name}-${n}-${n * 2 + 1}-${side}-${deep}-${true}.safetensors"', more)).toBe(
      'a-2-5-64x32-<a>-true.safetensors',
    );
    expect(path('"\\${name}"', more)).toBe('${name}');
  });

  test('an unknown name in it is pointed at, with the one that was meant', () => {
    const found = expectProblems(['unknown-name'], 'let name = "a" checkpoint b { path = "${«nmae»}" }');
    expect(found[0]?.hint).toBe('There is one with a similar name: name');
  });

  test('an empty one, and a path with line breaks in it, are no paths', () => {
    expectProblems(['empty-text', 'odd-path'], 'checkpoint a { path = «" "» } checkpoint b { path = «"C:\\new"» }');
  });

  test('names that double each other end in a complaint, not in a full memory', () => {
    const lets = Array.from({ length: 60 }, (_, index) => `let a${index + 1} = "\${a${index}}\${a${index}}"`).join(
      '\n',
    );
    const { diagnostics } = compileText(`let a0 = "x"\n${lets}\ncheckpoint c { path = a60 }`);
    expect(diagnostics.map(({ code }) => code)).toContain('too-complex');
  });
});

describe('other values', () => {
  test('sizes, durations and steps', () => {
    expect(blockOf(`dataset a { images = "x" resolution = 768x512 }`, 'dataset').attributes.resolution).toEqual({
      width: 768,
      height: 512,
    });
    expect(train('state_every = 30s').state_every).toEqual({ seconds: 30 });
    expect(train('state_every = 1.5h').state_every).toEqual({ seconds: 5400 });
    expect(train('state_every = 20').state_every).toEqual({ steps: 20 });
  });

  test('a schedule is kept as a tree, with names filled in', () => {
    const { clip_lambda } = saveus('optimizer = SAVEUS { clip_lambda = -(step + 1) ** k / 2 }', 'let k = 0.5');
    const power = { op: '**', left: { op: '+', left: 'step', right: 1 }, right: 0.5 };
    expect(clip_lambda).toEqual({ op: '/', left: { op: 'negate', of: power }, right: 2 });
  });

  test('a schedule knows "step" and nothing else', () => {
    const found = expectProblems(['unknown-name'], trainWith('optimizer = SAVEUS { clip_lambda = «setp» ** 2 }'));
    expect(found[0]?.hint).toBe('There is one with a similar name: step');
  });

  test('a tag alone is a record of defaults', () => {
    expect(train('lr_scheduler = constant noise = plain').lr_scheduler).toEqual({ kind: 'constant' });
    expect(train('noise = multires').noise).toEqual({ kind: 'multires', iterations: 12, discount: 0.4 });
    expect(train('noise = multires { iterations = 3 }').noise).toEqual({
      kind: 'multires',
      iterations: 3,
      discount: 0.4,
    });
  });

  test('one path or several', () => {
    expect(blockOf('dataset a { images = "x" }', 'dataset').attributes.images).toMatchObject({ text: 'x' });
    expect(blockOf('dataset a { images = ["x", "y"] }', 'dataset').attributes.images).toMatchObject([
      { text: 'x' },
      { text: 'y' },
    ]);
  });

  test('where a value is written is kept, and not where it is a default', () => {
    const { attributeSpans } = blockOf(trainWith('steps = 3'), 'train');
    const span = attributeSpans.steps;
    expect(span?.source.text.slice(span.start, span.end)).toBe('3');
    expect(attributeSpans.seed).toBeUndefined();
  });
});

describe('a value of the wrong kind', () => {
  test('is pointed at, with what was needed and what was found', () => {
    const program = trainWith(
      'steps = «"many"»\nnetwork = «8»\nseed = «[1]»\nunet_lr = «raw»\noptimizer = «{ eps = 1 }»',
    );
    const found = expectProblems(['wrong-type', 'wrong-type', 'wrong-type', 'wrong-type', 'wrong-type'], program);
    expect(found.map(({ message }) => message)).toMatchInlineSnapshot(`
      [
        ""steps" needs a whole number, and this is text.",
        ""network" needs locon, dora, loha, lokr or full with settings in braces, and this is a number.",
        ""seed" needs a whole number, and this is a list.",
        ""unet_lr" needs a number, and this is the word "raw".",
        ""optimizer" needs SAVEUS, AdamW, AdamW8bit, Adafactor, Prodigy, Lion, CAME or python with settings in braces, and this has no word in front of the braces.",
      ]
    `);
  });

  test('that is easily mistaken gets the right way of writing as a hint', () => {
    const attributes =
      'mixed_precision = "bf16"\nsteps = "80"\ngradient_checkpointing = true\nsave_precision = float16';
    expect(hintsOf(trainWith(attributes))).toEqual([
      'Write bf16, without quotes',
      'Write 80',
      'Write on',
      'Write fp16',
    ]);
    const dataset =
      'dataset a { images = photos flip_aug = yes shuffle_caption = "false" resolution = "1024,768" caption_extension = txt }';
    expect(hintsOf(dataset)).toEqual(['Write "photos"', 'Write true', 'Write false', 'Write 1024x768', 'Write "txt"']);
    expect(hintsOf(`${around} train raw { base = "pony" data = hero }`)).toEqual(['Write pony, without quotes']);
    expect(hintsOf(trainWith('', 'chop c { from = raw keep = OUT01 }'))).toEqual(['Write [OUT01]']);
    expect(hintsOf(trainWith('network = { dim = 4 }'))).toEqual(['Write locon in front of the braces']);
  });

  test('through a name is pointed at where the name is used, and explained where it is defined', () => {
    const found = expectProblems(['wrong-type'], trainWith('unet_lr = «rate»', 'let rate = "fast"'));
    expect(found[0]?.message).toBe('"unet_lr" needs a number, and "rate" is text.');
    expect(found[0]?.related[0]?.message).toBe('"rate" is defined here');
  });
});
