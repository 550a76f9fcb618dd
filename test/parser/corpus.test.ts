// The corpus in grammar/: programs that are right, and programs that are wrong beside what is said about them.
// The printed text is the product, so it is kept whole: UPDATE=1 … or `vitest -u` writes it anew.

import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { compile } from '../../src/parser/check.ts';
import { printDiagnostics } from '../../src/parser/diagnostics/print-diagnostic.ts';
import { compileText, filesFrom, fixAll } from './marked.ts';

const corpus = new URL('../../grammar/corpus/', import.meta.url);
const programs = (folder: string) => globSync(`${folder}/*.lora`, { cwd: corpus }).toSorted();

function check(path: string) {
  const text = readFileSync(new URL(path, corpus), 'utf8');
  const files = filesFrom((imported) => {
    const file = new URL(join(dirname(path), imported), corpus);
    return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
  });
  return compile({ path: basename(path), text }, { params: new Map(), files });
}

test.each(programs('good'))('%s is right', (path) => {
  const { program, diagnostics } = check(path);
  expect(printDiagnostics(diagnostics)).toBe('');
  expect(program).toBeDefined();
});

test.each(programs('bad'))('what can be fixed in %s without asking is fixed, and stays fixed', (path) => {
  const { diagnostics } = check(path);
  const text = readFileSync(new URL(path, corpus), 'utf8');
  const again = compileText(fixAll(text)).diagnostics;
  const fixable = diagnostics.filter(({ fix }) => fix !== undefined).length;
  // A fix can bring to light what was hidden behind it, but never more than one thing.
  expect(again.filter(({ fix }) => fix !== undefined).length).toBeLessThanOrEqual(Math.floor(fixable / 2));
  expect(again.filter(({ code }) => code === 'unexpected' || code === 'unclosed').length).toBeLessThanOrEqual(
    diagnostics.filter(({ code }) => code === 'unexpected' || code === 'unclosed').length,
  );
});

test.each(programs('bad'))('%s is wrong, and is told why', async (path) => {
  const { program, diagnostics } = check(path);
  expect(program).toBeUndefined();
  const expected = new URL(path.replace(/\.lora$/, '.txt'), corpus).pathname;
  await expect(`${printDiagnostics(diagnostics)}\n`).toMatchFileSnapshot(expected);
});
