// Texts that are none, or that are meant to hurt: an answer in a sentence or a program that checks, and never a crash.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { importText } from '../../src/foreign/import.ts';
import { literalOrText, readPythonLiteral } from '../../src/foreign/python-literal.ts';
import { nowhere } from '../../src/foreign/recipe.ts';
import { compile } from '../../src/parser/check.ts';
import { command } from './foreign.ts';

const problemOf = (text: string) => {
  const result = importText(text, nowhere);
  return 'problem' in result ? result.problem : undefined;
};

/** Nine lists of nine references each to the one before. */
const bomb = `config: &a0 [x, x]\n${Array.from({ length: 9 }, (_, at) => `a${at + 1}: &a${at + 1} [${Array(9).fill(`*a${at}`)}]`).join('\n')}`;

test.each([
  ['nothing', '', 'There is nothing to import.'],
  ['binary data', 'a\0b', 'This is no text.'],
  ['TOML that ends in the middle', 'a = "', /^This is no valid TOML: .* \(line 1\)\.$/],
  ['JSON that ends in the middle', '{ "a": [1,', /^This is no valid JSON: /],
  [
    'JSON nested beyond reason',
    `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    /^This JSON is nested too deeply/,
  ],
  ['JSON of no trainer', '{ "name": "lorac", "__proto__": { "LoRA_type": 1 } }', /no trainer that lorac knows/],
  ['a sentence', 'hello world', /no trainer that lorac knows/],
  [
    'a program of lorac',
    'import "a.lora"\ntrain raw extends base { steps = 3 }',
    'This is a program of lorac already.',
  ],
  ['YAML of no trainer', 'a:\n  - b', /no trainer that lorac knows/],
  ['YAML with a mistake', 'job: x\nconfig: [', /^This is no valid YAML: /],
  ['YAML nested beyond reason', `config: ${'['.repeat(20_000)}${']'.repeat(20_000)}`, /YAML/],
  ['YAML that unfolds to thousands of millions', bomb, /YAML/],
  ['TOML nested beyond reason', `a = ${'['.repeat(5000)}${']'.repeat(5000)}`, /TOML/],
])('%s is an answer in a sentence', (_, text, problem) => {
  expect(problemOf(text)).toMatch(problem);
});

test('a long command is read in a moment', () => {
  const started = performance.now();
  const flags = Array.from({ length: 20_000 }, (_, at) => `--flag_${at} "value ${at}"`).join(' \\\n');
  expect(problemOf(command(flags))).toBeUndefined();
  expect(problemOf(command(`--network_args ${'a=1 '.repeat(50_000)}`))).toBeUndefined();
  expect(performance.now() - started).toBeLessThan(10_000);
});

test('Python literals are read, not run, and not without end', () => {
  expect(readPythonLiteral('(1, 2.5, -3e-4)')).toEqual([1, 2.5, -3e-4]);
  expect(readPythonLiteral('(1,)')).toEqual([1]);
  expect(readPythonLiteral('(1)')).toBe(1);
  expect(readPythonLiteral(`{'a': [True, None], "b": 'x\\'y'}`)).toEqual({ a: [true, null], b: "x'y" });
  expect(readPythonLiteral('__import__("os").system("x")')).toBeUndefined();
  expect(readPythonLiteral('['.repeat(100_000))).toBeUndefined();
  expect(literalOrText('a b')).toBe('a b');
});

/** Pieces that commands are made of, so that chance finds its way deep inside. */
const piece = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc.constantFrom(
    '"',
    "'",
    '\\',
    '\n',
    '^\n',
    '`\n',
    '$X',
    '${X',
    '%A%',
    '# ',
    ' \\\n ',
    '=',
    ',',
    '{',
    '}',
    '"}',
    "'}'",
    '\r',
  ),
  fc.constantFrom(
    ...'pretrained_model_name_or_path train_data_dir resolution network_module network_args network_dim optimizer_type optimizer_args lr_scheduler lr_scheduler_args lr_warmup_steps max_train_epochs max_train_steps unet_lr text_encoder_lr output_dir output_name sample_prompts sample_every_n_steps caption_extension keep_tokens_separator min_snr_gamma noise_offset loss_type huber_c validation_split reg_data_dir seed'
      .split(' ')
      .map((name) => ` --${name} `),
  ),
  fc.constantFrom(
    'lycoris.kohya',
    'Prodigy',
    'cosine',
    'pkg.Opt',
    'a=1',
    'betas=(0.9,',
    'algo=lokr',
    '1e-4',
    '-1',
    '1e400',
    '10%',
    'NaN',
    '0x10',
  ),
);

test('whatever a command holds, the answer is a sentence or a program whose only errors are params that are not set', () => {
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 24 }), (pieces) => {
      const result = importText(`sdxl_train_network.py ${pieces.join('')}`, nowhere);
      if ('problem' in result) return;
      const { diagnostics } = compile({ path: 'x.lora', text: result.program }, { params: new Map() });
      const errors = diagnostics.filter(({ severity, code }) => severity === 'error' && code !== 'unset-param');
      expect(errors.map(({ message }) => message)).toEqual([]);
    }),
    { numRuns: 400 },
  );
});

/** A configuration with some of its values, at any depth, replaced by others. */
function spoiled(value: unknown, odd: readonly unknown[], chances: { next: () => number }): unknown {
  if (chances.next() < 0.12) return odd[Math.floor(chances.next() * odd.length)];
  if (Array.isArray(value)) return value.map((item) => spoiled(item, odd, chances));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, spoiled(one, odd, chances)]));
}

const read = (name: string) => readFileSync(new URL(`../fixtures/foreign/${name}`, import.meta.url), 'utf8');
const tables = [
  JSON.parse(read('kohya-gui.json')),
  JSON.parse(read('onetrainer.json')),
  parseYaml(read('ai-toolkit.yaml')),
];
const odd = [
  null,
  '',
  0,
  -1,
  1e300,
  1.5,
  true,
  false,
  'x',
  'a\nb',
  '${x}"}',
  [],
  [1, 'a'],
  {},
  { a: { b: 1 } },
  '1e-4',
  'none',
  4096,
];

test.each(['kohya_ss', 'OneTrainer', 'ai-toolkit'])(
  'a configuration of %s with anything in the place of its values is a sentence or a program that checks',
  (name) => {
    const table = tables[['kohya_ss', 'OneTrainer', 'ai-toolkit'].indexOf(name)];
    fc.assert(
      fc.property(fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })), (stream) => {
        const chances = { next: () => stream.next().value as number };
        const result = importText(JSON.stringify(spoiled(table, odd, chances)), nowhere);
        if ('problem' in result) return;
        const { diagnostics } = compile({ path: 'x.lora', text: result.program }, { params: new Map() });
        expect(diagnostics.filter(({ severity }) => severity === 'error').map(({ message }) => message)).toEqual([]);
      }),
      { numRuns: 300 },
    );
  },
);
