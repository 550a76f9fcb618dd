// The extension for VS Code: that what its manifest promises is there, and that what it writes is a program.
// `tsc` checks its types with everything else.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { expect, test } from 'vitest';
import { commandLine, loracCommand } from '../../editors/vscode/src/server-command.ts';
import { compileText } from '../parser/marked.ts';

const folder = resolve(import.meta.dirname, '../../editors/vscode');
const read = (name: string) => readFileSync(join(folder, name), 'utf8');
const manifest = JSON.parse(read('package.json'));

test('it can be bundled, and needs nothing but the editor', async () => {
  const out = mkdtempSync(join(tmpdir(), 'lorac-vscode-'));
  try {
    const { metafile } = await build({
      absWorkingDir: folder,
      entryPoints: ['src/extension.ts'],
      outdir: out,
      bundle: true,
      format: 'cjs',
      platform: 'node',
      external: ['vscode'],
      metafile: true,
      logLevel: 'silent',
    });
    const imported = Object.values(metafile.outputs).flatMap((output) => output.imports.map(({ path }) => path));
    const builtIn = (path: string) => builtinModules.includes(path.replace(/^node:/, ''));
    expect([...new Set(imported)].filter((path) => !builtIn(path))).toEqual(['vscode']);
  } finally {
    rmSync(out, { recursive: true });
  }
});

test('every command of the manifest is one of the source, and the other way round', () => {
  const source = read('src/extension.ts').replace("BUILD = 'lorac.build'", '').replaceAll('BUILD', "'lorac.build'");
  const registered = [...source.matchAll(/registerCommand\('([^']+)'/g)].map(([, name]) => name);
  const promised = manifest.contributes.commands.map(({ command }: { command: string }) => command);
  expect(registered.toSorted()).toEqual(promised.toSorted());
});

test('the files that the manifest names are there, or made by the bundle', () => {
  const { languages, grammars, snippets } = manifest.contributes;
  const named = [languages[0].configuration, snippets[0].path];
  for (const path of named) expect(() => JSON.parse(read(path))).not.toThrow();
  const bundled = read('scripts/bundle.mjs');
  for (const path of [grammars[0].path, manifest.main]) expect(bundled).toContain(path.split('/').at(-1));
});

test('what ends in a brace is indented, and what begins with one is not', () => {
  const { indentationRules, wordPattern } = JSON.parse(read('language-configuration.json'));
  const [more, less] = [
    new RegExp(indentationRules.increaseIndentPattern),
    new RegExp(indentationRules.decreaseIndentPattern),
  ];
  for (const line of ['train raw {', '  bucket = {', '  loras = [', 'train raw { # why']) expect(line).toMatch(more);
  for (const line of ['chop tiny { from = raw }', '# { not', 'let x = [1]']) expect(line).not.toMatch(more);
  for (const line of ['}', '  ]']) expect(line).toMatch(less);
  const words = 'base.raw = größe -3.55'.match(new RegExp(wordPattern.pattern, `${wordPattern.flags}g`));
  expect(words).toEqual(['base.raw', 'größe', '-3.55']);
});

/** A snippet with what its stops propose. */
function filledIn(body: string | readonly string[]): string {
  return [body]
    .flat()
    .join('\n')
    .replaceAll(/\$\{\d+:([^}]*)\}/g, '$1')
    .replaceAll(/\$\d/g, '');
}

const around = `checkpoint pony { path = "p.safetensors" } dataset images { images = "i" }
lora one { path = "a" base = pony } lora other { path = "b" }`;

test('every snippet is a program, or a part of one', () => {
  const snippets = JSON.parse(read('snippets.json')) as { [name: string]: { body: string | readonly string[] } };
  const places: { readonly [name: string]: (text: string) => string } = {
    'Pictures while it trains': (text) => `${around} train raw { base = pony data = images ${text} }`,
    'Several values of a setting': (text) =>
      `${around} let first = 1 let second = 2 train raw { base = pony data = images steps = ${text} }`,
    'A preview of pictures': (text) => `${around} train raw { base = pony data = images } ${text}`,
    'Merge of two': (text) => `${around} ${text}`,
  };
  for (const [name, { body }] of Object.entries(snippets)) {
    const text = (places[name] ?? ((alone: string) => alone))(filledIn(body));
    expect(compileText(text).diagnostics, name).toEqual([]);
  }
});

test('lorac is started by name, or with Node where its file is named', () => {
  expect(loracCommand('', ['lsp'])).toEqual({ command: 'lorac', args: ['lsp'] });
  expect(loracCommand('/opt/lorac', ['lsp'])).toEqual({ command: '/opt/lorac', args: ['lsp'] });
  expect(loracCommand('/clone/bin/lorac.mjs', ['lsp'], '/node')).toEqual({
    command: '/node',
    args: ['/clone/bin/lorac.mjs', 'lsp'],
  });
});

test('no name becomes shell syntax', () => {
  const line = (name: string) => commandLine({ command: 'echo', args: [name] }, false);
  for (const name of ['a b', '$(touch x)', '`x`', '"; rm -rf /', 'a\\b', '*', '~', '!!', 'small[thr=-3]', '-rf']) {
    const command = line(name);
    if (command === undefined) throw new Error(name);
    const shell = execFileSync('sh', ['-c', command.replace('echo', "printf '%s'")], { encoding: 'utf8' });
    expect(shell).toBe(name);
  }
  expect(line("it's")).toBeUndefined();
  expect(line('a\nb')).toBeUndefined();
  expect(commandLine({ command: 'C:\\my tools\\lorac', args: ['build'] }, true)).toBe("& 'C:\\my tools\\lorac' build");
});
