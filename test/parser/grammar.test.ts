// What is printed from the parser and from the schema table is current.
// UPDATE=1 npx vitest run test/parser/grammar.test.ts writes it anew.

import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { railroadPage } from '../../scripts/railroad.ts';
import { grammarText } from '../../src/parser/printed/grammar-text.ts';
import { languageText } from '../../src/parser/printed/language-text.ts';
import { textMateText } from '../../src/parser/printed/textmate-text.ts';
import { LoraParser, serializedGrammar } from '../../src/parser/reading/cst.ts';
import { createLexer, tokenFacts } from '../../src/parser/reading/tokens.ts';

function expectCurrent(path: string, text: string): void {
  const url = new URL(`../../${path}`, import.meta.url);
  if (process.env.UPDATE) writeFileSync(url, text);
  expect(readFileSync(url, 'utf8')).toBe(text);
}

test('the grammar on paper is the grammar of the parser', () => {
  expectCurrent('grammar/lora.ebnf', grammarText(serializedGrammar(), tokenFacts()));
});

test('the railroad diagrams are drawn from the grammar of the parser', () => {
  expectCurrent('grammar/lora.html', railroadPage(serializedGrammar(), tokenFacts()));
});

test('the diagrams need nothing from elsewhere', () => {
  expect(readFileSync(new URL('../../grammar/lora.html', import.meta.url), 'utf8')).not.toMatch(
    /<script|<link|src=|https?:(?!\/\/www\.w3\.org)/,
  );
});

test('the words of the TextMate grammar are those of the schema table', () => {
  expectCurrent('grammar/lora.tmLanguage.json', textMateText());
});

test('the language reference is printed from the schema table', () => {
  expectCurrent('docs/language.md', languageText());
});

test('the tokens are sound: none hides another, all have a first-character index', () => {
  expect(createLexer(true).lexerDefinitionErrors).toEqual([]);
});

test('the grammar is sound: no ambiguity, no left recursion', () => {
  expect(() => new LoraParser({ validate: true })).not.toThrow();
});

test('only the tokens and the grammar know chevrotain', () => {
  const root = new URL('../../', import.meta.url);
  const files = globSync('src/**/*.{ts,tsx}', { cwd: root });
  const users = files.filter((file) => /from 'chevrotain'/.test(readFileSync(new URL(file, root), 'utf8')));
  expect(users.toSorted()).toEqual(['src/parser/reading/cst.ts', 'src/parser/reading/tokens.ts']);
});
