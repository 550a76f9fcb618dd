// A changed stage has either the same results or another revision. This test makes somebody say which:
// it holds what each stage is made of, comments and layout aside, beside its revision.
//
// It failed? If the same inputs can now give other bytes, raise the stage's `revision`. Then, either way:
//   npx vitest run --project quick test/runtime/stages/revisions.test.ts -u

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { transformSync } from 'esbuild';
import { expect, test } from 'vitest';
import { stages } from '../../../src/runtime/stages/index.ts';

const root = resolve(import.meta.dirname, '../../..');

/** Where the work of each stage is done: its own file, and the worker's for those that run there. */
const homes: { readonly [stage in keyof typeof stages]: readonly string[] } = {
  checkpoint: ['src/runtime/stages/checkpoint.ts'],
  manifest: ['src/runtime/stages/manifest.ts'],
  latents: ['src/runtime/stages/latents.ts', 'python/lora_worker/stages/encode_latents.py'],
  train: ['src/runtime/stages/train.ts', 'python/lora_worker/stages/train.py'],
  samples: ['src/runtime/stages/samples.ts', 'python/lora_worker/stages/sample.py'],
  ema: ['src/runtime/stages/ema.ts'],
  decompose: ['src/runtime/stages/decompose.ts', 'python/lora_worker/stages/decompose.py'],
  frobenius: ['src/runtime/stages/reference-numbers.ts', 'python/lora_worker/stages/reference_numbers.py'],
  spectral: ['src/runtime/stages/reference-numbers.ts', 'python/lora_worker/stages/reference_numbers.py'],
  projections: ['src/runtime/stages/reference-numbers.ts', 'python/lora_worker/stages/reference_numbers.py'],
  resize: ['src/runtime/stages/resize.ts'],
  chop: ['src/runtime/stages/chop.ts'],
  save: ['src/runtime/stages/save.ts'],
  lora: ['src/runtime/stages/lora.ts'],
  merge: ['src/runtime/stages/merge.ts'],
  preview: [
    'src/runtime/stages/preview.ts',
    'python/lora_worker/stages/sample.py',
    'python/lora_worker/stages/grid.py',
  ],
  ablation: [
    'src/runtime/stages/ablation.ts',
    'python/lora_worker/stages/sample.py',
    'python/lora_worker/stages/measure.py',
    'python/lora_worker/stages/grid.py',
  ],
  analyze: ['src/runtime/stages/analyze.ts'],
  savePicture: ['src/runtime/stages/save-as-it-is.ts'],
  run: ['src/runtime/stages/run.ts'],
  saveFile: ['src/runtime/stages/save-as-it-is.ts'],
};

/** Rooms that move results about and have no part in what is in them. */
const carriers = /^src\/runtime\/(cache|executor|worker|graph)\/|^src\/runtime\/(stage|events|package-root)\.ts$/;
const messengers = /^python\/lora_worker\/(errors|failures|job|protocol|worker|devices|folder_lock|__init__)\.py$/;

test('a stage that changed has had its revision looked at', () => {
  const made = Object.entries(homes).map(([name, files]) => {
    const { revision } = stages[name as keyof typeof stages];
    return [name, { revision, source: digest(sourcesOf(files)) }];
  });
  expect(Object.fromEntries(made)).toMatchSnapshot();
});

/** The files and all that they import of the project, the carriers aside. */
function sourcesOf(files: readonly string[]): readonly string[] {
  const found = new Set<string>();
  const waiting = [...files];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (found.has(file) || carriers.test(file) || messengers.test(file)) continue;
    found.add(file);
    waiting.push(...(file.endsWith('.py') ? pythonImports(file) : scriptImports(file)));
  }
  return [...found].sort();
}

function scriptImports(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  const names = [...text.matchAll(/^(?:import|export)\b(?! type\b)[^;]*?from '(\.[^']+)'/gm)].map(
    ([, name]) => name ?? '',
  );
  return names.map((name) => relative(root, resolve(root, dirname(file), name)));
}

function pythonImports(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(/^from (lora_worker(?:\.\w+)*) import ([^(\n]+|\([^)]*\))/gm)].flatMap(
    ([, from = '', names = '']) => {
      const path = `python/${from.replaceAll('.', '/')}`;
      if (existsSync(join(root, `${path}.py`))) return [`${path}.py`];
      const inside = names
        .replaceAll(/[()\s]/g, '')
        .split(',')
        .map((name) => `${path}/${name}.py`);
      return inside.filter((each) => existsSync(join(root, each)));
    },
  );
}

function digest(files: readonly string[]): string {
  const hash = createHash('sha256');
  for (const file of files) hash.update(file).update(essence(file));
  return hash.digest('hex').slice(0, 16);
}

/** What is left of a file without comments, documentation and layout. */
function essence(file: string): string {
  const text = readFileSync(join(root, file), 'utf8');
  if (file.endsWith('.ts')) {
    return transformSync(text, { loader: 'ts', minifyWhitespace: true, minifySyntax: true, legalComments: 'none' })
      .code;
  }
  return text
    .replaceAll(/"""[\s\S]*?"""/g, '')
    .split('\n')
    .map((line) => line.replace(/(^|\s)#.*$/, '').trimEnd())
    .filter((line) => line !== '')
    .join('\n');
}
