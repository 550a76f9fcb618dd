// `env("NAME", default)`: values from the environment.

import { expect, test } from 'vitest';
import { compile } from '../../src/parser/check.ts';
import { printDiagnostics } from '../../src/parser/diagnostics/print-diagnostic.ts';
import { filesFrom } from './marked.ts';

function compileIn(variables: { readonly [name: string]: string }, text: string) {
  const files = filesFrom((path) => (path === 'b.lora' ? 'let home = env("MODELS", "models")' : undefined));
  const environment = (name: string) => (Object.hasOwn(variables, name) ? variables[name] : undefined);
  return compile({ path: 'test.lora', text }, { params: new Map(), files, environment });
}

function attributes(variables: { readonly [name: string]: string }, text: string) {
  const { program, diagnostics } = compileIn(variables, text);
  expect(printDiagnostics(diagnostics)).toBe('');
  return program?.blocks.at(-1)?.attributes;
}

const checkpoint = (value: string, more = '') => `${more} checkpoint c { path = ${value} }`;
const resize = (value: string) =>
  `lora l { path = "l.safetensors" } resize r { from = l  spn_lora = 1  thr = ${value} }`;
const codes = (variables: { readonly [name: string]: string }, text: string) =>
  compileIn(variables, text).diagnostics.map(({ code }) => code);

test('a variable is text as it stands, where its default is text', () => {
  const text = checkpoint('env("PONY", "pony.safetensors")');
  for (const value of ['b.safetensors', '5', 'true', 'a "quoted" \\ $n', '/x/y z', `\${x}`]) {
    expect(attributes({ PONY: value }, text)).toMatchObject({ path: { text: value } });
  }
  expect(attributes({}, text)).toMatchObject({ path: { text: 'pony.safetensors' } });
  expect(attributes({ PONY: '' }, text)).toMatchObject({ path: { text: 'pony.safetensors' } });
});

test('elsewhere it is read as in a program, and has the kind of its default', () => {
  expect(attributes({ THR: '-2.5' }, resize('env("THR", -3)'))).toMatchObject({ thr: -2.5 });
  expect(attributes({ THR: '-2.5' }, resize('env("THR") - 1'))).toMatchObject({ thr: -3.5 });
  expect(attributes({}, resize('env("THR", -3) * 2'))).toMatchObject({ thr: -6 });
  const dataset = 'dataset d { images = "i"  flip_aug = env("FLIP", true)  resolution = env("SIDE", 1024x1024) }';
  expect(attributes({ FLIP: 'false', SIDE: '768x512' }, dataset)).toMatchObject({
    flip_aug: false,
    resolution: { width: 768, height: 512 },
  });
});

test('a let can hold one, for text, and a param can have one for a default', () => {
  const text = checkpoint(`"\${home}/p.safetensors"`, 'param home = env("HOME_OF", "x")');
  expect(attributes({ HOME_OF: '/models' }, text)).toMatchObject({ path: { text: '/models/p.safetensors' } });
  const { program } = compile(
    { path: 'test.lora', text },
    { params: new Map([['home', 'y']]), environment: () => '/models' },
  );
  expect(program?.blocks[0]?.attributes).toMatchObject({ path: { text: 'y/p.safetensors' } });
});

test('what counts is the value: where it comes from leaves no trace in a checked program', () => {
  const plain = attributes({}, resize('-2.5'));
  expect(JSON.stringify(attributes({ A: '-2.5' }, resize('env("A", 1)')), ['thr', 'spn_lora'])).toBe(
    JSON.stringify(plain, ['thr', 'spn_lora']),
  );
});

test('an imported file reads the environment too, and paths from there start where the program is', () => {
  const text = 'import "b.lora" as b  lora l { path = b.home }';
  expect(attributes({ MODELS: 'm.safetensors' }, text)).toMatchObject({
    path: { text: 'm.safetensors', writtenIn: { path: 'test.lora' } },
  });
  expect(attributes({}, text)).toMatchObject({ path: { text: 'models', writtenIn: { path: 'b.lora' } } });
});

test('a variable that is not set, and one of another kind than its default', () => {
  const { diagnostics } = compileIn(
    { THR: 'low', RATE: 'fast' },
    `${resize('env("THR", -3)')} ${checkpoint('env("PONY")')} resize s { from = l  spn_lora = env("RATE") }`,
  );
  expect(printDiagnostics(diagnostics)).toMatchInlineSnapshot(`
    "test.lora:1:76 error: The default of "THR" is a number, and "low" is not of that kind. [variable-kind]
      1 | …esize r { from = l  spn_lora = 1  thr = env("THR", -3) }  checkpoint c { path = env("PONY") } resize s { from…
        |                                          ^^^^^^^^^^^^^^
      1 | THR=low
        |     --- "THR" is set here, in <environment>

    test.lora:1:116 error: The environment has no variable "PONY", or it is empty. [unset-variable]
      1 | …= 1  thr = env("THR", -3) }  checkpoint c { path = env("PONY") } resize s { from = l  spn_lora = env("RATE") …
        |                                                     ^^^^^^^^^^^
        = hint: Set it, or give a default: env("PONY", "…")

    test.lora:1:162 error: "spn_lora" needs a number, and "RATE" is text. [wrong-type]
      1 | …= 1  thr = env("THR", -3) }  checkpoint c { path = env("PONY") } resize s { from = l  spn_lora = env("RATE") …
        |                                                                                                   ^^^^^^^^^^^
      1 | RATE=fast
        |      ---- "RATE" is defined here, in <environment>"
  `);
});

test.each([
  ['env()', ['odd-variable']],
  ['env(PONY)', ['odd-variable']],
  ['env("A", "b", "c")', ['odd-variable']],
  ['env("")', ['odd-variable']],
  ['env("A", ["b"])', ['odd-variable']],
  ['env("A", sweep ["b", "c"])', ['odd-variable', 'misplaced-sweep']],
  [`env("\${x}")`, ['odd-variable']],
  ['getenv("A")', ['no-function']],
])('%s is told', (written, expected) => {
  expect(codes({ A: 'a' }, checkpoint(written))).toEqual(expected);
});

test('nothing but plain values comes in this way', () => {
  for (const value of ['sweep [1, 2]', '1 + 2', 'locon { dim = sweep [1, 2] }', '[1]', 'env("B")', '1)', '"']) {
    expect(codes({ A: value }, resize('env("A", 1)'))).toEqual(['variable-kind']);
  }
  expect(codes({ A: 'sweep ["a", "b"]' }, checkpoint('env("A")'))).toEqual([]);
});

test('names that go round in a circle through the environment are told', () => {
  expect(codes({}, checkpoint('a', 'let a = env("A", b) let b = a'))).toEqual(['cycle']);
});

test('a huge value ends in a diagnostic, or in a path', () => {
  const huge = 'x'.repeat(120_000);
  expect(codes({ A: huge }, checkpoint('env("A", "b")'))).toEqual(['too-complex']);
  expect(codes({ A: huge }, resize('env("A", 1)'))).toEqual(['variable-kind']);
  expect(printDiagnostics(compileIn({ A: huge }, resize('env("A", 1)')).diagnostics).length).toBeLessThan(2000);
  expect(codes({ A: '('.repeat(100_000) }, resize('env("A", 1)'))).toEqual(['variable-kind']);
  expect(codes({ A: 'line\nbreak' }, checkpoint('env("A", "b")'))).toEqual(['odd-path']);
});
