// The table at the top of docs/training.md promises a test for each rule. This one looks whether they are there.

import { globSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '..');
const read = (path: string) => readFileSync(resolve(root, path), 'utf8');

/** The cells of each rule: nothing, sd-scripts, here, setting, test. */
function rules(): readonly (readonly string[])[] {
  const table = read('docs/training.md').split('## Rule by rule')[1]?.split('\n## ')[0] ?? '';
  const lines = table.split('\n').filter((line) => line.startsWith('| |'));
  return lines.slice(1).map((line) =>
    line
      .split('|')
      .map((cell) => cell.trim())
      .slice(1, -1),
  );
}

function testNames(): ReadonlySet<string> {
  const python = globSync('python/tests/**/test_*.py', { cwd: root }).flatMap((path) =>
    [...read(path).matchAll(/^def (test_\w+)\(/gm)].map(([, name]) => name ?? ''),
  );
  const script = globSync('test/**/*.test.{ts,tsx}', { cwd: root }).flatMap((path) =>
    [...read(path).matchAll(/\btest\(\s*(['"])(.+?)\1,/g)].map(([, , name]) => name ?? ''),
  );
  return new Set([...python, ...script]);
}

test('every rule of the table says what sd-scripts does, what we do, and names a test that exists', () => {
  const names = testNames();
  const found = rules();
  expect(found.length).toBeGreaterThan(50);
  for (const [, theirs, ours, , named, ...more] of found) {
    expect([theirs, ours], theirs).not.toContain('');
    expect(names.has(named?.slice(1, -1) ?? ''), `${theirs} ${named}`).toBe(true);
    expect(more, theirs).toEqual([]);
  }
});

test('every rule that has a setting names one of the language, or says that it goes by their names', () => {
  const language = read('docs/language.md');
  for (const [, theirs, , setting = ''] of rules()) {
    const words = [...setting.matchAll(/`(\w+)/g)].map(([, word]) => word ?? '');
    const isSaid = setting === '' || setting === 'as in sd-scripts' || words.length > 0;
    expect(isSaid, theirs).toBe(true);
    for (const word of words) expect(language, `${theirs} ${word}`).toContain(word);
  }
});
