// The plan of the house, checked: imports point one way, and each library is used in one room.

import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '..');

interface Import {
  readonly file: string;
  /** A file of ours from the root, or the name of a package. */
  readonly target: string;
  readonly isType: boolean;
  /** Read when it is asked for, and not before. */
  readonly isLater: boolean;
}

const files = globSync('src/**/*.{ts,tsx}', { cwd: root }).map((file) => file.replaceAll('\\', '/'));
const imports: Import[] = files.flatMap(importsOf);

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const pattern = /^(?:import|export)\s+(type\s)?[^;'"]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm;
  return [...text.matchAll(pattern)].map(([, isType, from, bare, dynamic]) => {
    const named = from ?? bare ?? dynamic ?? '';
    const target = named.startsWith('.')
      ? relative(root, resolve(root, dirname(file), named)).replaceAll('\\', '/')
      : packageOf(named);
    return { file, target, isType: isType !== undefined, isLater: dynamic !== undefined };
  });
}

function packageOf(name: string): string {
  return name.startsWith('node:')
    ? name
    : name
        .split('/')
        .slice(0, name.startsWith('@') ? 2 : 1)
        .join('/');
}

const rooms = ['parser', 'foreign', 'runtime', 'tui', 'language-server', 'cli'];

function floorOf(file: string): number {
  return rooms.findIndex((room) => file.startsWith(`src/${room}/`) || file === `src/${room}.ts`);
}

const described = ({ file, target }: Import) => `${file} imports ${target}`;

test('every file has a room', () => {
  expect(files.filter((file) => floorOf(file) < 0)).toEqual([]);
  expect(imports.length).toBeGreaterThan(files.length);
});

test('imports point one way: cli → language-server → tui → runtime → parser', () => {
  const wrong = imports.filter(({ file, target }) => target.startsWith('src/') && floorOf(target) > floorOf(file));
  expect(wrong.map(described)).toEqual([]);
});

test('the view knows the events of the runtime, and nothing else of it', () => {
  const wrong = imports.filter(
    ({ file, target, isType }) =>
      file.startsWith('src/tui/') &&
      target.startsWith('src/runtime/') &&
      !(target === 'src/runtime/events.ts' && isType),
  );
  expect(wrong.map(described)).toEqual([]);
});

test('graph, cache, safetensors, sdxl, model, adapters, dataset, inspect and surgery know no particular stage and nothing of the worker', () => {
  const general = /^src\/runtime\/(?:graph|cache|safetensors|sdxl|model|adapters|dataset|inspect|surgery)\//;
  const wrong = imports.filter(
    ({ file, target }) => general.test(file) && /^src\/runtime\/(?:stages|worker|executor)\//.test(target),
  );
  expect(wrong.map(described)).toEqual([]);
});

test('stages and the worker know nothing of the executor', () => {
  const wrong = imports.filter(
    ({ file, target }) => /^src\/runtime\/(?:stages|worker)\//.test(file) && target.startsWith('src/runtime/executor/'),
  );
  expect(wrong.map(described)).toEqual([]);
});

test('what a stage is refers to the rooms around it by type alone', () => {
  const wrong = imports.filter(
    ({ file, target, isType }) => file === 'src/runtime/stage.ts' && target.startsWith('src/') && !isType,
  );
  expect(wrong.map(described)).toEqual([]);
});

test('the parser and what reads other trainers are pure: no files, no processes, no clock', () => {
  // node:util has functions over values alone.
  const wrong = imports.filter(
    ({ file, target }) =>
      /^src\/(?:parser|foreign)\//.test(file) && target.startsWith('node:') && target !== 'node:util',
  );
  expect(wrong.map(described)).toEqual([]);
});

const homes: { readonly [name: string]: RegExp } = {
  chevrotain: /^src\/parser\/reading\/(?:tokens|cst)\.ts$/,
  'fastest-levenshtein': /^src\/parser\//,
  ink: /^src\/tui\/(?:screen\.tsx|components\/)/,
  react: /^src\/tui\/(?:screen\.tsx|components\/)/,
  commander: /^src\/cli(?:\.ts|\/)/,
  execa: /^src\/runtime\/worker\//,
  'env-paths': /^src\/runtime\/worker\//,
  globby: /^src\/runtime\/dataset\//,
  canonicalize: /^src\/runtime\/cache\//,
  'fs-native-extensions': /^src\/runtime\/cache\//,
  'smol-toml': /^src\/foreign\//,
  yaml: /^src\/foreign\//,
  'vscode-languageserver': /^src\/language-server\//,
  'vscode-languageserver-textdocument': /^src\/language-server\//,
  zx: /^src\/runtime\/shell\//,
};

test('each library is used in its own room', () => {
  const wrong = imports.filter(({ file, target }) => {
    if (target.startsWith('src/') || target.startsWith('node:') || target === 'package.json') return false;
    return homes[target]?.test(file) !== true;
  });
  expect(wrong.map(described)).toEqual([]);
});

test('what starts quickly reads few packages: lorac --version one, a build that has nothing to do five', () => {
  expect(packagesReadBy('src/cli.ts')).toEqual(['commander']);
  expect(packagesReadBy('src/cli.ts', 'src/cli/build.ts')).toEqual([
    'canonicalize',
    'chevrotain',
    'commander',
    'env-paths',
    'fastest-levenshtein',
  ]);
});

/** By some files, and by all that they import at once. */
function packagesReadBy(...entries: readonly string[]): readonly string[] {
  const read = new Set(entries);
  for (const file of read) {
    for (const one of imports) if (one.file === file && !one.isType && !one.isLater) read.add(one.target);
  }
  return [...read].filter((target) => !/^src\/|^node:|^package\.json$/.test(target)).sort();
}

test('docs/dependencies.md says why each package is there', () => {
  const about = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const names = ['dependencies', 'optionalDependencies', 'devDependencies'].flatMap((kind) => Object.keys(about[kind]));
  const told = readFileSync(join(root, 'docs', 'dependencies.md'), 'utf8');
  const words = new Set(told.split(/[\s,|]+/));
  expect(names.filter((name) => !words.has(name))).toEqual([]);
});

test('no circle of imports between rooms', () => {
  const next = new Map<string, string[]>();
  for (const { file, target, isType } of imports) {
    if (!target.startsWith('src/') || isType || roomOf(file) === roomOf(target)) continue;
    next.set(roomOf(file), [...(next.get(roomOf(file)) ?? []), roomOf(target)]);
  }
  const circles = new Set<string>();
  const walk = (room: string, path: readonly string[]): void => {
    if (path.includes(room)) circles.add([...path.slice(path.indexOf(room)), room].join(' → '));
    else for (const target of next.get(room) ?? []) walk(target, [...path, room]);
  };
  for (const room of next.keys()) walk(room, []);
  expect([...circles]).toEqual([]);
});

/** A folder of `src`; in `runtime`, each folder is a room, and so is each file that lies beside them. */
function roomOf(file: string): string {
  const parts = file.split('/');
  return parts.slice(0, parts[1] === 'runtime' ? 3 : 2).join('/');
}
