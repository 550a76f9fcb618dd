// The TextMate grammar over the corpus: what each piece of text is taken for, as an editor would see it.

import { globSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { beforeAll, expect, test } from 'vitest';
import oniguruma from 'vscode-oniguruma';
import textmate from 'vscode-textmate';
import { readSource } from '../../src/parser/check.ts';
import { textMateText } from '../../src/parser/printed/textmate-text.ts';
import * as t from '../../src/parser/reading/tokens.ts';
import { isA } from '../../src/parser/reading/tokens.ts';
import { blockKinds, fieldsOf } from '../../src/parser/schema/schema.ts';

type TokenType = (typeof t)['Word'];

const root = new URL('../../', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), 'utf8');

let grammar: textmate.IGrammar;

beforeAll(async () => {
  const wasm = readFileSync(createRequire(import.meta.url).resolve('vscode-oniguruma/release/onig.wasm'));
  await oniguruma.loadWASM(wasm.buffer.slice(wasm.byteOffset, wasm.byteOffset + wasm.byteLength));
  const registry = new textmate.Registry({
    onigLib: Promise.resolve({
      createOnigScanner: (sources) => new oniguruma.OnigScanner([...sources]),
      createOnigString: (text) => new oniguruma.OnigString(text),
    }),
    loadGrammar: async () => textmate.parseRawGrammar(textMateText(), 'lora.tmLanguage.json'),
  });
  const loaded = await registry.loadGrammar('source.lora');
  if (loaded === null) throw new Error('no grammar');
  grammar = loaded;
});

/** Pieces of one text that have a name, each with its last one. */
function scopes(text: string): [string, string][] {
  let stack = textmate.INITIAL;
  return text.split('\n').flatMap((line) => {
    const { tokens, ruleStack } = grammar.tokenizeLine(line, stack);
    stack = ruleStack;
    return tokens.flatMap(({ startIndex, endIndex, scopes: names }): [string, string][] => {
      const name = names.at(-1);
      const piece = line.slice(startIndex, endIndex);
      return name === undefined || name === 'source.lora' || piece.trim() === '' ? [] : [[piece, name]];
    });
  });
}

const printed = (text: string) =>
  scopes(text)
    .map(([piece, name]) => `${piece.padEnd(24)} ${name}`)
    .join('\n');

test('a program in colours', () => {
  const text = `# what it is for
import "base.lora" as base
param name = "fox"
train raw extends base.raw {
  network   = locon { dim = 8  alpha = 4 }
  optimizer = SAVEUS { eps = 1e-8  clip_lambda = step ** 0.25 }
  unet_lr   = sweep { low = 1e-4  high = 3e-4 }
  bucket_size = 1024x768  state_every = 5min  flip = true  precision = bf16
}
chop tiny { from = raw@best  keep = [OUT01, MID, TE1] }
save "out/\${name}-\${1 + 2}\\n.safetensors" { from = tiny } // done
save 'C:\\raw \${no}' { from = tiny }`;
  expect(`\n${printed(text)}\n`).toMatchSnapshot();
});

/** What the lexer and the arranged tokens say a piece is, and what its scope has to begin with. */
const expected: readonly (readonly [t: readonly TokenType[], scope: string])[] = [
  [[t.BlockWord, t.Let, t.Param, t.Import, t.Extends], 'keyword.'],
  [[t.Key], 'variable.other.property'],
  [[t.NumberNumeral, t.SizeNumeral, t.DurationNumeral, t.QuantityNumeral], 'constant.numeric'],
  [[t.QuotedText, t.RawText], 'string.'],
];

test.each(globSync('grammar/corpus/good/*.lora', { cwd: root }).toSorted())(
  '%s: colours agree with the parser',
  (path) => {
    const text = read(path);
    const { tokens, comments } = readSource({ path, text });
    const wanted = [
      ...comments.map((token) => ({ token, scope: 'comment.' })),
      ...tokens.flatMap((token) => {
        const scope = expected.find(([types]) => types.some((type) => isA(token, type)))?.[1];
        // A key in quotes is a text to an editor.
        const isPlain = token.image !== '' && !(isA(token, t.Key) && /^["']/.test(token.image));
        return scope === undefined || !isPlain ? [] : [{ token, scope }];
      }),
    ];
    const found = scopeStarts(text);
    const wrong = wanted.filter(({ token, scope }) => found.get(token.startOffset)?.includes(scope) !== true);
    expect(wrong.map(({ token, scope }) => `${token.image}: ${found.get(token.startOffset)} is no ${scope}`)).toEqual(
      [],
    );
    expect(wanted.length).toBeGreaterThan(20);
  },
);

test.each(globSync('grammar/corpus/bad/*.lora', { cwd: root }).toSorted())('%s: colours come to an end', (path) => {
  expect(scopes(read(path)).length).toBeGreaterThan(0);
});

/** All names of the piece that begins at an offset. */
function scopeStarts(text: string): ReadonlyMap<number, string> {
  let stack = textmate.INITIAL;
  const starts = new Map<number, string>();
  let offset = 0;
  for (const line of text.split('\n')) {
    const { tokens, ruleStack } = grammar.tokenizeLine(line, stack);
    stack = ruleStack;
    for (const { startIndex, scopes: names } of tokens) starts.set(offset + startIndex, names.join(' '));
    offset += line.length + 1;
  }
  return starts;
}

test('every kind of block begins one', () => {
  for (const kind of blockKinds) {
    for (const line of [`${kind} name {`, `${kind} "a name" {`, `${kind} one extends two {`]) {
      expect(scopes(line)[0]).toEqual([kind, 'keyword.control.block.lora']);
    }
  }
});

test('every attribute is one before "=", whatever it is called', () => {
  for (const name of blockKinds.flatMap((kind) => Object.keys(fieldsOf(kind)))) {
    expect(scopes(`  ${name} = 1`)[0]).toEqual([name, 'variable.other.property.lora']);
  }
});

test('a text that is not closed ends with its line', () => {
  expect(scopes('path = "open ${name\nsteps = 8')).toContainEqual(['steps', 'variable.other.property.lora']);
});
