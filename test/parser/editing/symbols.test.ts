import { expect, test } from 'vitest';
import { type Loaded, linkProgram, readSource } from '../../../src/parser/check.ts';
import { meaningAt, placesOfName, type Symbols, symbolsOf } from '../../../src/parser/editing/symbols.ts';

function read(text: string): Symbols {
  return symbolsOf(linkProgram(readSource({ path: 'test.lora', text }), undefined));
}

/** The names of a program as they are written, each with what it belongs to. */
function names(text: string): string[] {
  return read(text).meanings.flatMap((one) =>
    one.kind === 'use' || one.kind === 'definition'
      ? [`${one.kind} of ${one.of.kind} ${one.of.name}: ${text.slice(one.span.start, one.span.end)}`]
      : [],
  );
}

test('a block is used by its name, by extends, at a step and with a weight', () => {
  const text = `train raw { } train more extends raw { }
    merge both { from = { "raw" = 0.5 more = 1 } } merge list { from = [raw@best, more] }
    save "x.safetensors" { from = both }`;
  expect(names(text)).toMatchInlineSnapshot(`
    [
      "definition of block raw: raw",
      "definition of block more: more",
      "use of block raw: raw",
      "definition of block both: both",
      "use of block raw: raw",
      "use of block more: more",
      "definition of block list: list",
      "use of block raw: raw",
      "use of block more: more",
      "use of block both: both",
    ]
  `);
});

test('a let is used in values, in arithmetic, in lists, in texts and in other lets', () => {
  const text = `let half = whole / 2 let whole = 8 param name = "\${whole}"
    train raw { steps = half batch_size = whole * 2 optimizer = SAVEUS { betas = [half, 1] } }
    save "\${name}.safetensors" { from = raw }`;
  expect(names(text)).toMatchInlineSnapshot(`
    [
      "definition of let half: half",
      "use of let whole: whole",
      "definition of let whole: whole",
      "definition of param name: name",
      "use of let whole: whole",
      "definition of block raw: raw",
      "use of let half: half",
      "use of let whole: whole",
      "use of let half: half",
      "use of param name: name",
      "use of block raw: raw",
    ]
  `);
});

test('a word that an attribute knows itself is no name, whatever else is called so', () => {
  const text =
    'let bf16 = 1 let OUT01 = 2 let step = 3 train raw { mixed_precision = bf16 steps = bf16 } chop c { keep = [OUT01] }';
  expect(names(text).filter((one) => one.startsWith('use'))).toEqual(['use of let bf16: bf16']);
});

test('what has mistakes is understood as far as it goes', () => {
  const text = 'checkpoint pony { path = } train raw { base = pony  nonsense = { a = pony }  data = nobody';
  expect(names(text)).toEqual([
    'definition of block pony: pony',
    'definition of block raw: raw',
    'use of block pony: pony',
    'use of block pony: pony',
  ]);
});

test('the meaning of a word is found from its first letter to behind its last', () => {
  const text = 'checkpoint pony { } train raw { base = pony }';
  const symbols = read(text);
  const start = text.lastIndexOf('pony');
  for (const offset of [start, start + 2, start + 4]) expect(meaningAt(symbols, offset)).toMatchObject({ kind: 'use' });
  expect(meaningAt(symbols, start - 1)).toBeUndefined();
  expect(meaningAt(symbols, start + 5)).toBeUndefined();
  expect(meaningAt(symbols, text.indexOf('base'))).toMatchObject({ kind: 'attribute', place: { path: ['base'] } });
});

test('all places of a name are those that a rename changes', () => {
  const text = 'checkpoint "pony" { } train pony_2 { base = pony } lora l { base = pony }';
  const symbols = read(text);
  const pony = symbols.blocks.get('pony');
  if (pony === undefined) throw new Error('no pony');
  expect(placesOfName(symbols, pony).map(({ span }) => text.slice(span.start, span.end))).toEqual(
    Array(3).fill('pony'),
  );
});

test('a block is used where a variant of it is named, and where a text tells the value of its sweep', () => {
  const text = `resize small { thr = sweep [-3, low] } let low = -4
    chop tiny { from = small[thr=-3] } save "\${small.thr}.safetensors" { from = tiny }`;
  expect(names(text)).toEqual([
    'definition of block small: small',
    'use of let low: low',
    'definition of let low: low',
    'definition of block tiny: tiny',
    'use of block small: small',
    'use of block small: small',
    'use of block tiny: tiny',
  ]);
});

/** A program and the files that it may import, by name. */
function readFiles(text: string, others: { readonly [path: string]: string }): Symbols {
  const sources = new Map(Object.entries(others).map(([path, other]) => [path, { path, text: other }]));
  const load = (path: string): Loaded => {
    const source = sources.get(path);
    return source ? { status: 'found', id: path, source } : { status: 'problem', message: 'There is none.' };
  };
  return symbolsOf(linkProgram(readSource({ path: 'main.lora', text }), { load, identify: ({ path }) => path }));
}

test('names of imported files lead there, and those of imports to the imports', () => {
  const text =
    'import "base.lora" as base import "more.lora" resize small { from = base.raw } save "x.safetensors" { from = old }';
  const symbols = readFiles(text, {
    'base.lora': 'checkpoint pony { path = "p" } train raw { base = pony }',
    'more.lora': 'lora old { path = "o" }',
  });
  const shown = symbols.meanings.flatMap((one) => {
    const written = text.slice(one.span.start, one.span.end);
    if (one.kind === 'file') return [`${written} → ${one.source.path}`];
    return one.kind === 'use' ? [`${written} → ${one.of.kind} in ${one.of.span.source.path}`] : [];
  });
  expect(shown).toEqual([
    '"base.lora" → base.lora',
    '"more.lora" → more.lora',
    'base → import in main.lora',
    'raw → block in base.lora',
    'old → block in more.lora',
  ]);
  expect([...symbols.blocks.keys()]).toEqual(['small', 'old', 'base.pony', 'base.raw']);
  const pony = symbols.elsewhere.filter((one) => 'of' in one && one.of.name === 'pony');
  expect(pony.map(({ kind }) => kind)).toEqual(['definition', 'use']);
});
