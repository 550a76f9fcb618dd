// The presets that come with lorac: each one checks, can be read, and can be extended by a program.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { compileFile } from '../../src/cli/compile-file.ts';
import { presets } from '../../src/cli/preset-files.ts';
import { listPresets, showPreset } from '../../src/cli/presets.ts';
import { printDiagnostics } from '../../src/parser/diagnostics/print-diagnostic.ts';
import { readSource } from '../../src/parser/reading/read-source.ts';

let folder: string;
const before = process.cwd();
const names = presets().map(({ name }) => name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lorac-presets-'));
  process.chdir(folder);
});

afterEach(() => {
  vi.restoreAllMocks();
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

function check(text: string) {
  writeFileSync('main.lora', text);
  return compileFile({ file: 'main.lora', param: [] });
}

function blocksOf(text: string) {
  const { program, diagnostics } = check(text);
  expect(printDiagnostics(diagnostics)).toBe('');
  return new Map(program?.blocks.map((block) => [block.name, block]));
}

const around = 'checkpoint pony { path = "pony.safetensors" }';

test('there is the recipe of the guide, a gentle one, one for styles, and two for small cards', () => {
  expect(names).toEqual(['gentle-character', 'guide', 'low-vram', 'lowest-vram', 'style']);
});

test.each(presets())('$name says in its first line what it is for, and in comments why', ({ about, text }) => {
  expect(about).toMatch(/^\p{Lu}.{30,115}\.$|^\p{Lu}.{30,115}:.*\.$/u);
  expect(text.split('\n').filter((line) => line.length > 120)).toEqual([]);
  expect(text).toContain('import "lorac:');
});

test.each(names)('every block of %s can be extended by a program that checks without a word', (name) => {
  const { program } = readSource({ path: name, text: presets().find((one) => one.name === name)?.text ?? '' });
  const blocks = program.statements.filter((statement) => statement.kind === 'block');
  const more: { readonly [kind: string]: string } = {
    dataset: 'images = "images"',
    train: 'base = pony  data = hero',
    resize: 'from = raw',
    chop: 'from = raw',
  };
  const extended = blocks.map(({ blockKind: { text: kind }, name: block }, index) => {
    const other = block !== undefined && 'text' in block ? block.text : '';
    const own = kind === 'train' ? 'raw' : kind === 'dataset' ? 'hero' : `b${index}`;
    return `${kind} ${own} extends p.${other} { ${more[kind]} }`;
  });
  const found = blocksOf(`import "lorac:${name}" as p\n${around}\n${extended.join('\n')}`);
  expect(found.size).toBe(blocks.length + 1);
});

test.each(presets())('the program in the comment of $name checks as it stands', ({ text }) => {
  const example = text
    .split('\n')
    .filter((line) => line.startsWith('#   '))
    .map((line) => line.slice(4));
  expect(example.length).toBeGreaterThan(1);
  const written = example.join('\n');
  const hero = /^ *dataset/m.test(written) ? '' : 'dataset hero { images = "images" }';
  expect(blocksOf(`${written}\n${around}\n${hero}`).get('raw')?.kind).toBe('train');
});

test('the recipe of the guide is what a training is where nothing is written', () => {
  const written = blocksOf(`import "lorac:guide" as guide ${around} dataset hero extends guide.pictures { images = "i" }
    train raw extends guide.recipe { base = pony  data = hero }  resize small extends guide.small { from = raw }`);
  const plain = blocksOf(`${around} dataset hero { images = "i" }  train raw { base = pony  data = hero }
    resize small { from = raw }`);
  const said = (blocks: typeof plain, name: string) =>
    JSON.stringify(blocks.get(name)?.attributes, (key, value) =>
      key === 'span' || key === 'writtenIn' ? null : value,
    );
  for (const name of ['hero', 'raw', 'small']) expect(said(written, name)).toBe(said(plain, name));
});

test('the low ones differ from the guide only in what they name', () => {
  const of = (name: string) => {
    const text = `import "lorac:${name}" as p ${around} dataset hero { images = "i" }
      train raw extends p.recipe { base = pony  data = hero }`;
    return blocksOf(text).get('raw')?.attributes as Record<string, unknown>;
  };
  const [guide, low, lowest] = [of('guide'), of('low-vram'), of('lowest-vram')];
  const differing = (one: Record<string, unknown>, other: Record<string, unknown>) =>
    Object.keys(one).filter(
      (key) => !['base', 'data'].includes(key) && JSON.stringify(one[key]) !== JSON.stringify(other[key]),
    );
  expect(differing(guide, low)).toEqual(['network']);
  expect(low).toMatchObject({ batch_size: 8, gradient_accumulation_steps: 6, network: { dim: 8, conv_dim: 16 } });
  expect(differing(low, lowest).sort()).toEqual(['fp8_base', 'network', 'text_encoder_lr', 'train_text_encoder']);
});

test('a preset that is not there is told with those that are', () => {
  const messages = (text: string) => check(text).diagnostics.map(({ message, hint }) => [message, hint]);
  expect(messages('import "lorac:stile" as s')).toEqual([
    ['lorac has no preset "stile".', 'There is one with a similar name: lorac:style'],
  ]);
  for (const name of ['../package', '', 'guide.lora', 'x'.repeat(300)]) {
    expect(messages(`import "lorac:${name}" as s`)[0]?.[0]).toBe(`lorac has no preset "${name}".`);
  }
  // A file of that name is still a path.
  writeFileSync('lorac:mine.lora', 'lora l { path = "l.safetensors" }');
  expect(blocksOf('import "./lorac:mine.lora" as m  resize r { from = m.l  spn_lora = 1 }').size).toBe(2);
});

test('lorac presets lists them, and prints one', () => {
  const written: string[] = [];
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  listPresets();
  expect(written.join('')).toMatchSnapshot();
  written.length = 0;
  showPreset('guide');
  expect(written.join('')).toBe(readFileSync(new URL('../../presets/guide.lora', import.meta.url), 'utf8'));
  expect(() => showPreset('gide')).toThrow('There is no preset "gide".');
});
