// lorac resize BASE LORA…: the recipes of resize_lora on files, without a program.
// Decompositions and numbers of base weights stay in a store, so another threshold is choosing and writing alone.

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { Store } from '../runtime/cache/store.ts';
import { absolutePath } from '../runtime/graph/paths.ts';
import type { Precision } from '../runtime/stages/resize-recipe.ts';
import type { ReporterKind } from '../tui/reporter.ts';
import { resizeGraph } from './resize-graph.ts';
import { readRecipes } from './resize-recipes.ts';
import { runGraph } from './run-graph.ts';
import { UsageError } from './usage-error.ts';
import { userStoreFolder } from './user-store.ts';

export interface ResizeOptions {
  readonly base: string;
  readonly loras: readonly string[];
  readonly recipes: string;
  readonly output?: string;
  readonly outputDtype: OutputDtype;
  readonly overwrite?: boolean;
  readonly reporter?: ReporterKind;
}

/** As resize_lora names them, and what programs call them. */
const precisions = { 16: 'fp16', 32: 'fp32', bf16: 'bf16', fp16: 'fp16', fp32: 'fp32' } as const satisfies {
  readonly [word: string]: Precision;
};
export type OutputDtype = keyof typeof precisions;

export async function resize(options: ResizeOptions): Promise<number> {
  const { base, loras, output, overwrite = false, outputDtype } = options;
  const precision = precisions[outputDtype];
  const recipes = readRecipes(options.recipes).map((recipe) => ({ ...recipe, precision }));
  const graph = resizeGraph({
    base: fileAt(base),
    loras: loras.map(fileAt),
    recipes,
    folder: output === undefined ? undefined : folderAt(output),
    overwrite,
  });

  return runGraph({ graph, openStore: (warn) => new Store(userStoreFolder(), { warn }), reporter: options.reporter });
}

function fileAt(path: string) {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isFile()) return absolutePath(resolve(path));
  if (found !== undefined) throw new UsageError(`"${path}" is not a file.`);
  const isMerge = /:[\d.]+(?:,|$)/.test(path);
  throw new UsageError(
    `There is no file "${path}".`,
    isMerge ? 'LoRAs are resized one by one, and not merged' : undefined,
  );
}

function folderAt(path: string) {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === false) {
    throw new UsageError(`"${path}" is not a folder.`, '-o names the folder; files in it are called by their recipe');
  }
  return absolutePath(resolve(path));
}
