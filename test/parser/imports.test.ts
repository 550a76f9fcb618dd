// Programs of several files: which names each file knows, what of an imported file is built, and what can go wrong.

import { expect, test } from 'vitest';
import { printDiagnostics } from '../../src/parser/diagnostics/print-diagnostic.ts';
import { compileFiles, type Files } from './marked.ts';

const models = `
let folder = "models"
checkpoint pony { path = "\${folder}/pony.safetensors" }
`;
const kohya = `
import "models.lora"
param rate = 3e-4
dataset hero { images = "images" }
train raw { base = pony  data = hero  unet_lr = rate  network = locon { dim = 16  conv_dim = 8 } }
save "kohya.safetensors" { from = raw }
`;

/** `file:text` of each place that a diagnostic points at, behind its code. */
function problemsOf(files: Files, params = {}): readonly string[] {
  return compileFiles(files, params).diagnostics.map(
    ({ code, span }) => `${code} ${span.source.path}: ${span.source.text.slice(span.start, span.end)}`,
  );
}

function blocksOf(files: Files, params = {}) {
  const { program, diagnostics } = compileFiles(files, params);
  expect(printDiagnostics(diagnostics)).toBe('');
  return new Map(program?.blocks.map((block) => [block.name, block]));
}

const namesOf = (files: Files) => [...blocksOf(files).keys()];

test('blocks of another file are named with the name of the import before them', () => {
  const main = 'import "kohya.lora" as kohya  resize small { from = kohya.raw }';
  const blocks = blocksOf({ 'main.lora': main, 'kohya.lora': kohya, 'models.lora': models });
  expect([...blocks.keys()]).toEqual(['small', 'kohya.raw', 'kohya.pony', 'kohya.hero']);
  expect(blocks.get('small')?.attributes).toMatchObject({ from: { block: 'kohya.raw' } });
  expect(blocks.get('kohya.raw')?.attributes).toMatchObject({ base: { block: 'kohya.pony' } });
});

test('without a name they keep their own, and so do those of the files that the other imports', () => {
  const main = 'import "kohya.lora"  train mine { base = pony  data = hero  unet_lr = rate * 2 }';
  const blocks = blocksOf({ 'main.lora': main, 'kohya.lora': kohya, 'models.lora': models });
  expect([...blocks.keys()]).toEqual(['mine', 'pony', 'hero']);
  expect(blocks.get('mine')?.attributes).toMatchObject({ unet_lr: 6e-4 });
});

test('of an imported file only what the program is made from is built, and its saves never are', () => {
  const files = { 'kohya.lora': kohya, 'models.lora': models };
  expect(
    namesOf({ 'main.lora': 'import "kohya.lora"  lora l { path = "l.safetensors"  base = pony }', ...files }),
  ).toEqual(['l', 'pony']);
});

test('a name means what it means in the file that wrote it', () => {
  const main = `
    import "kohya.lora" as kohya
    let rate = 1e-5
    let folder = "elsewhere"
    checkpoint pony { path = "\${folder}/mine.safetensors" }
    train raw extends kohya.raw { network = locon { dim = 4 } }
  `;
  const blocks = blocksOf({ 'main.lora': main, 'kohya.lora': kohya, 'models.lora': models });
  expect(blocks.get('raw')?.attributes).toMatchObject({
    base: { block: 'kohya.pony' },
    unet_lr: 3e-4,
    // Key by key, over the files.
    network: { dim: 4, conv_dim: 8 },
  });
  expect(blocks.get('pony')?.attributes).toMatchObject({ path: { text: 'elsewhere/mine.safetensors' } });
  expect(blocks.get('kohya.pony')?.attributes).toMatchObject({ path: { text: 'models/pony.safetensors' } });
});

test('lists are replaced over files as they are inside of one', () => {
  const files = {
    'main.lora':
      'import "b.lora" as b  lora l { path = "l.safetensors" }  chop c extends b.c { from = l  keep = [MID] }',
    'b.lora': 'chop c { keep = [OUT01, IN] }',
  };
  expect(blocksOf(files).get('c')?.attributes).toMatchObject({ keep: ['MID'] });
});

test('a path remembers the file that wrote it, also through names and extended blocks', () => {
  const files = {
    'main.lora': `
      import "sets/b.lora" as b
      dataset hero { images = [b.folder, "here"] }
      train raw extends b.raw { base = b.pony  data = hero  sample = { every = 5 } }
    `,
    'sets/b.lora': `
      let folder = "there"
      checkpoint pony { path = "pony.safetensors" }
      train raw { sample = { prompts = "prompts.txt" } }
    `,
  };
  const blocks = blocksOf(files);
  expect(blocks.get('hero')?.attributes).toMatchObject({
    images: [
      { text: 'there', writtenIn: { path: 'sets/b.lora' } },
      { text: 'here', writtenIn: { path: 'main.lora' } },
    ],
  });
  expect(blocks.get('raw')?.attributes).toMatchObject({
    sample: { every: 5, prompts: { text: 'prompts.txt', writtenIn: { path: 'sets/b.lora' } } },
  });
});

test('a path from the command line starts where the program is', () => {
  const files = {
    'main.lora': 'import "sets/b.lora" as b  lora l { path = b.file }',
    'sets/b.lora': 'param file = "a.safetensors"',
  };
  const pathOf = (params: object) => blocksOf(files, params).get('l')?.attributes;
  expect(pathOf({})).toMatchObject({ path: { text: 'a.safetensors', writtenIn: { path: 'sets/b.lora' } } });
  expect(pathOf({ 'b.file': 'x.safetensors' })).toMatchObject({
    path: { text: 'x.safetensors', writtenIn: { path: 'main.lora' } },
  });
});

test('params of imported files are set with the name of the import before them', () => {
  const main = 'import "kohya.lora" as kohya  resize small { from = kohya.raw }';
  const files = { 'main.lora': main, 'kohya.lora': kohya, 'models.lora': models };
  expect(blocksOf(files, { 'kohya.rate': '2e-5' }).get('kohya.raw')?.attributes).toMatchObject({ unet_lr: 2e-5 });
  const { diagnostics } = compileFiles(files, { rate: '1e-6', 'kohya.rote': '1' });
  expect(diagnostics.map(({ code, hint }) => [code, hint])).toEqual([
    ['unknown-param', 'Its params: kohya.rate.'],
    ['unknown-param', 'There is one with a similar name: kohya.rate'],
  ]);
});

test('a param of an imported file without a value says how to set it', () => {
  const files = { 'main.lora': 'import "b.lora" as b  lora l { path = b.file }', 'b.lora': 'param file' };
  const [found] = compileFiles(files).diagnostics;
  expect(found).toMatchObject({ code: 'unset-param', hint: expect.stringContaining('-p b.file=…') });
  expect(blocksOf(files, { 'b.file': 'l.safetensors' }).has('l')).toBe(true);
});

test('what is only extended may lack what has to be written, and what is made into something may not', () => {
  const preset = 'train gentle { unet_lr = 1e-4  sample = { every = 10 } }';
  const around = 'checkpoint pony { path = "p.safetensors" }  dataset hero { images = "i" }';
  const extending = `import "preset.lora" as p  ${around}
    train raw extends p.gentle { base = pony  data = hero  sample = { prompts = "p.txt" } }`;
  expect(namesOf({ 'main.lora': extending, 'preset.lora': preset })).toEqual(['pony', 'hero', 'raw']);
  const using = 'import "preset.lora" as p  resize small { from = p.gentle  spn_lora = 1 }';
  expect(problemsOf({ 'main.lora': using, 'preset.lora': preset })).toEqual([
    'missing-attribute preset.lora: train gentle',
    'missing-attribute preset.lora: train gentle',
    'missing-attribute preset.lora: { every = 10 }',
  ]);
  expect(problemsOf({ 'main.lora': preset })).toHaveLength(3);
});

test('mistakes in an imported file are told with their place in it, used or not', () => {
  const files = {
    'main.lora': 'import "b.lora" as b  lora l { path = "l.safetensors" }',
    'b.lora': 'train x { unet_rl = 1  dim }  chop c { keep = [OUT99] }  trein y { }',
  };
  expect(problemsOf(files)).toEqual([
    'unknown-attribute b.lora: unet_rl',
    'missing-value b.lora: dim',
    'unknown-attribute b.lora: dim',
    'unknown-block b.lora: OUT99',
    'unknown-kind b.lora: trein',
  ]);
});

test('a mistake in what is extended is told once, where it is written', () => {
  const files = {
    'main.lora': `import "b.lora" as b  checkpoint pony { path = "p.safetensors" }  dataset hero { images = "i" }
      train one extends b.x { base = pony  data = hero }
      train two extends b.x { base = pony  data = hero }`,
    'b.lora': 'train x { unet_lr = "fast" }',
  };
  expect(problemsOf(files)).toEqual(['wrong-type b.lora: "fast"']);
});

test('two imports may lead to one file: its blocks are the same blocks', () => {
  const files = {
    'main.lora': `import "a.lora" as a  import "b.lora"  merge both { from = [a.x, y] }`,
    'a.lora': 'import "models.lora"  lora x { path = "x.safetensors"  base = pony }',
    'b.lora': 'import "models.lora"  lora y { path = "y.safetensors"  base = pony }',
    'models.lora': models,
  };
  expect(namesOf(files)).toEqual(['both', 'a.x', 'y', 'pony']);
});

test('a sweep of an imported file makes variants, and of these only what is asked for is made', () => {
  const sets = 'train raw { base = pony  data = hero  network = locon { dim = sweep [4, 8] } }';
  const around = 'checkpoint pony { path = "p.safetensors" }  dataset hero { images = "i" }';
  const files = (from: string) => ({
    'main.lora': `import "b.lora" as b  resize s { from = ${from} }  save "s-\${b.raw.network.dim}.safetensors" { from = s }`,
    'b.lora': `${around} ${sets}`,
  });
  expect(namesOf(files('b.raw'))).toEqual([
    ...['s[dim=4]', 's[dim=8]', 's-4.safetensors', 's-8.safetensors'],
    ...['b.raw[dim=4]', 'b.raw[dim=8]', 'b.pony', 'b.hero'],
  ]);
  const one = { ...files('b.raw[dim=8]'), 'main.lora': 'import "b.lora" as b  resize s { from = b.raw[dim=8] }' };
  expect(namesOf(one)).toEqual(['s', 'b.raw[dim=8]', 'b.pony', 'b.hero']);
});

test('names of names', () => {
  const files = {
    'main.lora': 'import "a.lora" as a  lora l { path = "l.safetensors"  base = a.b.pony }',
    'a.lora': 'import "sub/b.lora" as b',
    'sub/b.lora': 'import "../models.lora"',
    'models.lora': models,
  };
  expect(namesOf(files)).toEqual(['l', 'a.b.pony']);
});

test('a let of one file and one of the same name in another are no circle', () => {
  const files = {
    'main.lora': 'import "b.lora" as b  let size = b.size  lora l { path = size }',
    'b.lora': 'let size = "l.safetensors"',
  };
  expect(namesOf(files)).toEqual(['l']);
  const circle = { 'main.lora': 'let size = size  lora l { path = size }' };
  expect(problemsOf(circle)).toEqual(['cycle main.lora: size']);
});

test('a name that two files bring is told at the import, with both places', () => {
  const files = {
    'main.lora': 'import "kohya.lora"  import "b.lora"  dataset hero { images = "i" }',
    'kohya.lora': kohya,
    'models.lora': models,
    'b.lora': 'lora raw { path = "raw.safetensors" }  let folder = 1',
  };
  const { diagnostics } = compileFiles(files);
  expect(printDiagnostics(diagnostics)).toMatchInlineSnapshot(`
    "main.lora:1:8 error: This import brings the name "hero", which is taken. [import-clash]
      1 | import "kohya.lora"  import "b.lora"  dataset hero { images = "i" }
        |        ^^^^^^^^^^^^
      1 | import "kohya.lora"  import "b.lora"  dataset hero { images = "i" }
        |                                               ---- "hero" is defined here
      4 | dataset hero { images = "images" }
        |         ---- "hero" comes from here, in kohya.lora
        = hint: Give the file a name, which then stands before its own: as kohya, and kohya.hero

    main.lora:1:29 error: This import brings names that are taken: "raw" and "folder". [import-clash]
      1 | import "kohya.lora"  import "b.lora"  dataset hero { images = "i" }
        |                             ^^^^^^^^
      5 | train raw { base = pony  data = hero  unet_lr = rate  network = locon { dim = 16  conv_dim = 8 } }
        |       --- "raw" is defined here, in kohya.lora
      1 | lora raw { path = "raw.safetensors" }  let folder = 1
        |      --- "raw" comes from here, in b.lora
      2 | let folder = "models"
        |     ------ "folder" is defined here, in models.lora
      1 | lora raw { path = "raw.safetensors" }  let folder = 1
        |                                            ------ "folder" comes from here, in b.lora
        = hint: Give the file a name, which then stands before its own: as b, and b.raw"
  `);
});

test('names of imports are names too', () => {
  const files = {
    'a.lora': '',
    'b.lora': '',
    'main.lora': 'import "a.lora" as x  import "b.lora" as x  lora x.y { path = "l.safetensors" }',
  };
  expect(problemsOf(files)).toEqual(['duplicate-name main.lora: x', 'duplicate-name main.lora: x']);
});

test('files that import each other are told, with each place', () => {
  const files = {
    'main.lora': 'import "a.lora" as a  lora l { path = a.b.file }',
    'a.lora': 'import "b.lora" as b',
    'b.lora': 'import "a.lora" as a  let file = "l.safetensors"',
  };
  const { diagnostics } = compileFiles(files);
  expect(printDiagnostics(diagnostics)).toMatchInlineSnapshot(`
    "b.lora:1:1 error: These files import each other: "a.lora" → "b.lora" → "a.lora". [import-circle]
      1 | import "a.lora" as a  let file = "l.safetensors"
        | ^^^^^^^^^^^^^^^^^^^^
      1 | import "b.lora" as b
        | -------------------- "a.lora" imports the next here, in a.lora
        = hint: Move what several of them need into a file of its own, which imports none of them."
  `);
  expect(
    problemsOf({ 'main.lora': 'import "a.lora"', 'a.lora': 'import "main.lora"  lora x { path = "x.safetensors" }' }),
  ).toEqual(['import-circle a.lora: import "main.lora"']);
});

test.each([
  ['import "main.lora"', ['imports-itself main.lora: "main.lora"']],
  ['import "b.lora"  import "./b.lora" as b', ['imported-twice main.lora: "./b.lora"']],
  ['import "none.lora"', ['import-failed main.lora: "none.lora"']],
  ['import "b.lora" has b', ['import-as main.lora: has']],
  ['import "b.lora" as b.c', ['bad-name main.lora: b.c']],
  [`let x = "b"  import "\${x}.lora"`, [`imported-expression main.lora: "\${x}.lora"`]],
  ['import ""', ['empty-text main.lora: ""']],
  ["import 'b\u0000.lora'", ["odd-path main.lora: 'b\u0000.lora'"]],
  ['import "new\\nlora"', ['odd-path main.lora: "new\\nlora"']],
])('%j is told', (text, expected) => {
  const files = { 'main.lora': `${text}\nlora l { path = "l.safetensors" }`, 'b.lora': '' };
  expect(problemsOf(files)).toEqual(expected);
});

test('of a file that could not be read nothing further is said', () => {
  const main = `
    import "none.lora" as none
    train raw extends none.raw { base = none.pony  data = none.hero  unet_lr = none.rate * 2 }
    save "\${none.name}.safetensors" { from = none.small }
    resize small { from = rwa }
  `;
  expect(problemsOf({ 'main.lora': main })).toEqual([
    'import-failed main.lora: "none.lora"',
    'unknown-name main.lora: rwa',
  ]);
  expect(problemsOf({ 'main.lora': 'import "none.lora"  resize small { from = raw  thr = low }' })).toEqual([
    'import-failed main.lora: "none.lora"',
  ]);
});

test('unknown names of an import suggest those that it has', () => {
  const files = {
    'main.lora': 'import "kohya.lora" as kohya  resize s { from = kohya.rwa }',
    'kohya.lora': kohya,
    'models.lora': models,
  };
  expect(compileFiles(files).diagnostics[0]?.hint).toBe('There is one with a similar name: kohya.raw');
});

test('a bomb of imports ends in a diagnostic', () => {
  const chain = Object.fromEntries(
    Array.from({ length: 300 }, (_, index) => [`f${index}.lora`, `import "f${index + 1}.lora" as a`]),
  );
  expect(problemsOf({ 'main.lora': 'import "f0.lora" as a', ...chain })).toContain(
    'too-many-files f99.lora: "f100.lora"',
  );
  const fan = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`f${index}.lora`, '']));
  const imports = Object.keys(fan).map((path, index) => `import "${path}" as a${index}`);
  expect(problemsOf({ 'main.lora': imports.join('\n'), ...fan })).toEqual(['too-many-files main.lora: "f100.lora"']);
  const large = `# ${'x'.repeat(600_000)}`;
  expect(
    problemsOf({
      'main.lora': 'import "a.lora" as a import "b.lora" as b import "c.lora" as c',
      'a.lora': large,
      'b.lora': large,
      'c.lora': large,
    }),
  ).toEqual(['too-many-files main.lora: "b.lora"']);
});

test('doubling with every file stays quick', () => {
  const files = Object.fromEntries(
    Array.from({ length: 60 }, (_, index) => [
      `f${index}.lora`,
      `import "l${index}.lora" as l import "r${index}.lora" as r\nlet n${index} = 1`,
    ]),
  );
  const sides = Object.fromEntries(
    Array.from({ length: 60 }, (_, index) =>
      ['l', 'r'].map((side) => [`${side}${index}.lora`, `import "f${index + 1}.lora" as x`] as const),
    ).flat(),
  );
  const start = performance.now();
  problemsOf({ 'main.lora': 'import "f0.lora"', ...files, ...sides });
  expect(performance.now() - start).toBeLessThan(2000);
});
