// Whatever is in a file: the checker says something about it, soon, and never throws.

import { globSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Compiled } from '../../src/parser/check.ts';
import { printDiagnostics } from '../../src/parser/diagnostics/print-diagnostic.ts';
import { compileFiles, compileText } from './marked.ts';

const root = new URL('../../', import.meta.url);
const programs = globSync(['examples/**/*.lora', 'grammar/corpus/**/*.lora'], { cwd: root }).map((path) =>
  readFileSync(new URL(path, root), 'utf8'),
);

/** Far above what the slowest program takes, far below what a user would call hanging. */
const limitMs = 5000;

function expectAnAnswer(text: string): void {
  expectAnswered(() => compileText(text));
}

function expectAnswered(compile: () => Compiled): void {
  const start = performance.now();
  const { program, diagnostics } = compile();
  const printed = printDiagnostics(diagnostics);
  expect(performance.now() - start).toBeLessThan(limitMs);
  expect(program === undefined).toBe(diagnostics.some(({ severity }) => severity === 'error'));
  for (const { span, related, fix } of diagnostics) {
    for (const one of [span, ...related.map((note) => note.span), ...(fix ? [fix.span] : [])]) {
      expect(one.start).toBeGreaterThanOrEqual(0);
      expect(one.end).toBeGreaterThanOrEqual(one.start);
      expect(one.end).toBeLessThanOrEqual(one.source.text.length);
    }
  }
  expect(printed.split('\n').length).toBeGreaterThanOrEqual(diagnostics.length);
}

const pieces = fc.constantFrom(
  ...[
    '{',
    '}',
    '[',
    ']',
    '(',
    ')',
    '"',
    "'",
    '=',
    ',',
    '\n',
    '${',
    '#',
    '//',
    '@',
    '**',
    '-',
    '/',
    ':',
    ';',
    '“',
    '\\',
    '%',
  ],
  ...[
    'train',
    'save',
    'resize a {',
    'let',
    'param',
    'import',
    'extends',
    'sweep',
    'sweep [',
    'sweep {',
    '[thr=',
    'exclude = [{',
    'step',
    'true',
    '1',
    '1e',
    '64x64',
    '5min',
    '0x',
  ],
  ...['\u0000', '\u202e', '😀', '漢', '\ud800', '\t', '\r'],
);

interface Edit {
  readonly at: number;
  readonly remove: number;
  readonly insert: string;
}

const edit: fc.Arbitrary<Edit> = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  remove: fc.oneof(fc.constant(0), fc.nat({ max: 3 }), fc.nat({ max: 200 })),
  insert: fc.oneof(fc.constant(''), pieces, fc.string({ unit: 'grapheme', maxLength: 6 })),
});

function edited(program: string, edits: readonly Edit[]): string {
  return edits.reduce((text, { at, remove, insert }) => {
    const offset = Math.floor(at * text.length);
    return text.slice(0, offset) + insert + text.slice(offset + remove);
  }, program);
}

test('programs with random edits', () => {
  fc.assert(
    fc.property(fc.constantFrom(...programs), fc.array(edit, { minLength: 1, maxLength: 6 }), (program, edits) => {
      expectAnAnswer(edited(program, edits));
    }),
    { numRuns: 600 },
  );
});

test('programs of several files, with random edits in each of them', () => {
  const read = (path: string) => readFileSync(new URL(`grammar/corpus/good/${path}`, root), 'utf8');
  const [main, models, style] = ['imports.lora', 'parts/models.lora', 'parts/house-style.lora'].map(read) as [
    string,
    string,
    string,
  ];
  const edits = fc.array(edit, { maxLength: 2 });
  fc.assert(
    fc.property(edits, edits, edits, (ofMain, ofModels, ofStyle) => {
      const files = {
        'main.lora': edited(main, ofMain),
        'parts/models.lora': edited(models, ofModels),
        'parts/house-style.lora': edited(style, ofStyle),
      };
      expectAnswered(() => compileFiles(files, { 'house.prefix': 'x' }));
    }),
    { numRuns: 600 },
  );
});

test('programs with lines shuffled, doubled and left out', () => {
  fc.assert(
    fc.property(fc.constantFrom(...programs), fc.infiniteStream(fc.nat()), (program, numbers) => {
      const lines = program.split('\n');
      const picked = lines.map(() => lines[(numbers.next().value ?? 0) % lines.length]);
      expectAnAnswer(picked.join('\n'));
    }),
    { numRuns: 150 },
  );
});

test('pieces of the language in any order', () => {
  const words = fc.constantFrom(
    'checkpoint',
    'dataset',
    'train',
    'a',
    'b',
    'path',
    'from',
    'base',
    '"x"',
    'network',
    'locon',
    'keep',
    'OUT01',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(words, pieces), { maxLength: 60 }), (parts) => {
      expectAnAnswer(parts.join(' '));
    }),
    { numRuns: 600 },
  );
});

test('bytes that are no program at all', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 400 }), expectAnAnswer), { numRuns: 150 });
});

const many = 2000;
const numbers = Array.from({ length: many }, (_, index) => index);

/** Each is shaped to make something recurse, repeat or double. */
const stress: { readonly [name: string]: string } = {
  'a long chain of blocks': numbers.map((index) => `resize r${index} { from = r${index + 1} }`).join('\n'),
  'a long circle of blocks': numbers.map((index) => `resize r${index} { from = r${(index + 1) % many} }`).join('\n'),
  'no closing brace at all': numbers.map((index) => `resize r${index} { from = r${index + 1}`).join('\n'),
  'opening braces only': '{'.repeat(20_000),
  'headers only': 'resize a {'.repeat(many),
  'thousands of slips in one body': `resize a {${' x = 1 = '.repeat(many)}}`,
  'thousands of slips in one list': `let x = [${' 1 = '.repeat(many)}]`,
  'thousands of slips between blocks': ' = 3\n'.repeat(many),
  'a long chain of lets': `${numbers.map((index) => `let l${index} = l${index + 1}`).join('\n')} train t { unet_lr = l0 }`,
  'a long sum of lets': `let l0 = 1 ${numbers.map((index) => `let l${index + 1} = l${index} + 1`).join('\n')} train t { unet_lr = l${many} }`,
  'a long text of lets': `let l0 = "x" ${numbers.map((index) => `let l${index + 1} = "\${l${index}}"`).join('\n')} checkpoint t { path = l${many} }`,
  'lets that double': `let l0 = step ${numbers.map((index) => `let l${index + 1} = l${index} * l${index}`).join('\n')} train t { optimizer = SAVEUS { clip_lambda = l60 } }`,
  'a long line of extending': numbers.map((index) => `resize r${index} extends r${index + 1} { }`).join('\n'),
};

test.each(Object.entries(stress))('%s gets an answer', (_, text) => {
  expectAnAnswer(text);
});
