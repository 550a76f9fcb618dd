// The table behind `lorac explain`, held to the code: what it says about each problem is what really happens.

import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { missingFiles } from '../../src/cli/missing-files.ts';
import { placesOfUser } from '../../src/cli/places.ts';
import { unfitPatterns } from '../../src/cli/unfit-patterns.ts';
import type { Diagnostic } from '../../src/parser/diagnostics/diagnostics.ts';
import { printDiagnostics } from '../../src/parser/diagnostics/print-diagnostic.ts';
import { compileExample } from '../../src/parser/explanations/example.ts';
import { given } from '../../src/parser/explanations/explanation.ts';
import {
  type Explanation,
  explainedCodes,
  explanationOf,
  inStyle,
} from '../../src/parser/explanations/explanations.ts';
import { explanationsText } from '../../src/parser/printed/explanations-text.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const root = new URL('../../', import.meta.url);

const folder = temporaryFolder();
folder.write({
  'pony.safetensors': '',
  'prompts.txt': '',
  'images/fox.png': '',
  'half/model_index.json': '{ "_class_name": "StableDiffusionXLPipeline" }',
});
afterAll(() => folder[Symbol.dispose]());

const isAboutFiles = (code: string) => ['missing-file', 'folder-for-file', 'broken-folder'].includes(code);

/** What is said about an example; about its files only where these are the point. */
function toldAbout(code: string, example: string): readonly Diagnostic[] {
  const explanation = explanationOf(code) as Explanation;
  const { program, diagnostics } = compileExample(folder.at('hero.lora'), example, explanation);
  const missing = isAboutFiles(code) && program !== undefined ? missingFiles(program, placesOfUser()) : [];
  const unfit = program === undefined ? [] : unfitPatterns(program);
  return [...diagnostics, ...unfit, ...missing];
}

/** Every code that a factory gives. */
function codesInSource(): string[] {
  const files = [...globSync('src/parser/diagnostics/*.ts', { cwd: root }), 'src/cli/missing-files.ts'];
  const found = files.flatMap((file) => {
    const text = readFileSync(new URL(file, root), 'utf8');
    return [...text.matchAll(/\b(?:error|warning)\(\s*'([a-z-]+)'|\bcode: '([a-z-]+)'/g)].map(
      ([, a, b]) => a ?? b ?? '',
    );
  });
  return [...new Set(found)].toSorted();
}

test('every code is explained', () => {
  const codes = codesInSource();
  expect(codes.length).toBeGreaterThan(80);
  const missing = codes.filter((code) => explanationOf(code) === undefined);
  expect(
    missing,
    `Each of these needs an entry in src/parser/explanations: what it means, a program that has this problem and no
other, and the same program mended. Then: UPDATE=1 npx vitest run test/parser/explanations.test.ts`,
  ).toEqual([]);
  const gone = explainedCodes.filter((code) => !codes.includes(code));
  expect(gone, 'No factory gives these codes any more: take their entries out of src/parser/explanations').toEqual([]);
});

test.each(explainedCodes)('the wrong example of %s has that problem, and no other', (code) => {
  const { wrong = '' } = explanationOf(code) ?? {};
  const told = toldAbout(code, wrong);
  expect([...new Set(told.map((one) => one.code))], printDiagnostics(told)).toEqual([code]);
});

test.each(explainedCodes)('the right example of %s is right', (code) => {
  const { right = '' } = explanationOf(code) ?? {};
  expect(printDiagnostics(toldAbout(code, right))).toBe('');
});

/** Those that say all of it in one file, with nothing on the command line, in the environment or on a disk. */
const plainCodes = explainedCodes.filter((code) => {
  const explanation = explanationOf(code) as Explanation;
  return (
    explanation.files === undefined &&
    !isAboutFiles(code) &&
    code !== 'unfit-pattern' &&
    !/# .*lorac build/.test(explanation.wrong)
  );
});

test.each(plainCodes)(
  'the corpus has the examples of %s, and what is said about the wrong one (UPDATE=1 writes them)',
  (code) => {
    const explanation = explanationOf(code) as Explanation;
    const [wrong, right] = [explanation.wrong, inStyle(explanation.right)].map((text) =>
      `${text}\n${given(text)}`.trimEnd(),
    );
    const { diagnostics } = compileExample(`${code}.lora`, explanation.wrong, explanation);
    const files = {
      [`${code}.lora`]: `${wrong}\n`,
      [`${code}.txt`]: `${printDiagnostics(diagnostics)}\n`,
      [`${code}.right.lora`]: `${right}\n`,
    };
    for (const [name, text] of Object.entries(files)) {
      const path = new URL(`grammar/corpus/codes/${name}`, root);
      if (process.env.UPDATE !== undefined) writeFileSync(path, text);
      expect(readFileSync(path, 'utf8')).toBe(text);
    }
  },
);

test('docs/diagnostics.md is printed from the table (UPDATE=1 prints it anew)', () => {
  const path = new URL('docs/diagnostics.md', root);
  if (process.env.UPDATE !== undefined) writeFileSync(path, explanationsText());
  expect(readFileSync(path, 'utf8')).toBe(explanationsText());
});
