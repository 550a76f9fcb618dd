import { expect, test } from 'vitest';
import { readSource } from '../../../src/parser/check.ts';
import { type Spot, spotAt } from '../../../src/parser/editing/spot.ts';

/** What may stand at the `|`. */
function at(marked: string): Spot | undefined {
  const offset = marked.indexOf('|');
  const text = marked.slice(0, offset) + marked.slice(offset + 1);
  const source = { path: 'test.lora', text };
  const { tokens, comments } = readSource(source);
  return spotAt({ source, tokens, comments }, offset);
}

test.each([
  ['|'],
  ['tra|'],
  ['checkpoint pony { }\ntr|\ntrain raw { }'],
  ['let a = 1\n|'],
  ['train raw { steps = 1 }|'],
  ['train raw\n|'],
])('a statement: %j', (marked) => {
  expect(at(marked)).toMatchObject({ kind: 'statement' });
});

test.each([
  ['train raw { | }', 'train', []],
  ['train raw {\n  un|\n  steps = 80\n}', 'train', []],
  ['train raw {\n  steps = 80\n  |', 'train', []],
  ['train raw { bas| = pony }', 'train', []],
  ['train raw { optimizer = SAVEUS { | } }', 'train', ['optimizer']],
  ['train raw { optimizer = SAVEUS { eps = 1 |', 'train', ['optimizer']],
  ['dataset d { bucket = { mi| } }', 'dataset', ['bucket']],
  ['train raw { optimizer = SAVEUS { } | }', 'train', []],
  ['train raw { steps = 80\n  |\n\nresize small { }', 'train', []],
])('a setting: %j', (marked, blockKind, path) => {
  expect(at(marked)).toMatchObject({ kind: 'setting', blockKind, path });
});

test('settings that are written already are known, but for the one under the cursor', () => {
  const spot = at('train raw { steps = 1 optimizer = SAVEUS { eps = 1 } ba|se = pony  data = hero }');
  expect(spot).toMatchObject({ kind: 'setting', hasEquals: true });
  expect(spot?.kind === 'setting' && [...spot.written]).toEqual(['steps', 'optimizer', 'data']);
});

test.each([
  ['train raw { base = | }', 'reference', ['base']],
  ['train raw { base = |\n data = hero }', 'reference', ['base']],
  ['train raw { mixed_precision = b| }', 'words', ['mixed_precision']],
  ['train raw { optimizer = SAV| }', 'tagged', ['optimizer']],
  ['train raw { optimizer = SAVEUS { clip_gradients = | } }', 'boolean', ['optimizer', 'clip_gradients']],
  ['chop c { keep = [IN, |] }', 'network-block', ['keep']],
  ['merge m { from = [| }', 'weighted-references', ['from']],
  ['train raw { steps = 2 * | }', 'number', ['steps']],
  ['train raw { mixed_precision = sweep [bf16, |] }', 'words', ['mixed_precision']],
  ['save "x.safetensors" { from = |', 'reference', ['from']],
])('a value: %j', (marked, kind, path) => {
  expect(at(marked)).toMatchObject({ kind: 'value', path, type: { kind } });
});

test.each([
  ['let a = |', { kind: 'anything', inText: false }],
  [`save "\${na|}.safetensors" { }`, { kind: 'anything', inText: true }],
  [`save "\${|}"`, { kind: 'anything', inText: true }],
  ['train more extends r| { }', { kind: 'other', blockKind: 'train' }],
  ['resize small { from = raw@| }', { kind: 'choice', of: 'raw' }],
  ['resize small { from = raw@be| }', { kind: 'choice', of: 'raw' }],
  ['chop c { weights = { | } }', { kind: 'key', type: { kind: 'block-numbers' } }],
  ['merge m { from = { ra| } }', { kind: 'key', type: { kind: 'weighted-references' } }],
] as const)('%j', (marked, spot) => {
  expect(at(marked)).toMatchObject(spot);
});

test.each([
  ['# a comm|ent'],
  ['train ra| { }'],
  ['train |'],
  ['let na|'],
  ['checkpoint pony { path = "a|b" }'],
  ['train raw { steps = 8| }'],
  ['chop tiny { from = small[|] }'],
  [`save '\${na|}' { }`],
])('nothing can be proposed: %j', (marked) => {
  expect(at(marked)).toBeUndefined();
});
