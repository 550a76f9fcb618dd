// lorac resize BASE LORA…: the recipes of resize_lora on files, without a program.
// Decompositions and numbers of base weights stay in a store, so another threshold is choosing and writing alone.

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { LoraFormat } from '../parser/lora-formats.ts';
import { Store } from '../runtime/cache/store.ts';
import { StageFailure } from '../runtime/events.ts';
import type { Graph } from '../runtime/graph/graph.ts';
import { absolutePath } from '../runtime/graph/paths.ts';
import type { Precision, WrittenRecipe } from '../runtime/surgery/resize/recipe.ts';
import type { ReporterKind } from '../tui/reporter.ts';
import { type Base, openBase } from './base-files.ts';
import { type LoraPart, readLoraArgument, readLoraHeader } from './lora-arguments.ts';
import { type JobPart, resizeGraph } from './resize-graph.ts';
import { readExtract, readRecipes } from './resize-recipes.ts';
import { runGraph } from './run-graph.ts';
import { tellFailure } from './tell-failure.ts';
import { UsageError } from './usage-error.ts';
import { userStoreFolder } from './user-store.ts';

export interface ResizeOptions {
  readonly base: string;
  readonly loras: readonly string[];
  readonly recipes: string;
  readonly output?: string;
  readonly outputDtype: OutputDtype;
  /** For recipes that do not say it themselves. */
  readonly extract?: string;
  readonly format?: LoraFormat;
  readonly overwrite?: boolean;
  readonly reporter?: ReporterKind;
}

/** As resize_lora names them, and what programs call them. */
const precisions = { 16: 'fp16', 32: 'fp32', bf16: 'bf16', fp16: 'fp16', fp32: 'fp32' } as const satisfies {
  readonly [word: string]: Precision;
};
export type OutputDtype = keyof typeof precisions;

export async function resize(options: ResizeOptions): Promise<number> {
  const graph = await graphOf(options);
  if (graph === undefined) return 1;
  return runGraph({ graph, openStore: (warn) => new Store(userStoreFolder(), { warn }), reporter: options.reporter });
}

/** `undefined` after telling about a file that cannot be read. Throws `UsageError`. */
async function graphOf(options: ResizeOptions): Promise<Graph | undefined> {
  const { output, overwrite = false } = options;
  const recipes = recipesOf(options);
  const folder = output === undefined ? undefined : folderAt(output);
  const named = options.loras.map(readLoraArgument);
  try {
    const base = await openBase(options.base);
    const loras: (readonly JobPart[])[] = [];
    for (const parts of named) loras.push(await Promise.all(parts.map((part) => looked(part, base, options.base))));
    return resizeGraph({ base: base.files, loras, recipes, folder, overwrite });
  } catch (error) {
    if (!(error instanceof StageFailure)) throw error;
    tellFailure(error.failure);
    return undefined;
  }
}

function recipesOf({ recipes, extract, outputDtype, format }: ResizeOptions): readonly WrittenRecipe[] {
  const common: WrittenRecipe = {
    precision: precisions[outputDtype],
    ...(extract !== undefined && { extract: readExtract(extract) }),
    ...(format !== undefined && { format }),
  };
  return readRecipes(recipes).map((recipe) => ({ ...common, ...recipe }));
}

/** A part with what its header says. Refuses a LoRA of another generation than the base's. */
async function looked(part: LoraPart, { isSdxl }: Base, base: string): Promise<JobPart> {
  const { isCanonical, families, generation, isSurelySdxl } = await readLoraHeader(part.path);
  const isOther = isSdxl === true ? generation !== 'SDXL' : isSdxl === false && isSurelySdxl();
  if (isOther) {
    const [lora, checkpoint] = isSdxl ? ['Stable Diffusion 1 or 2', 'SDXL'] : ['SDXL', 'Stable Diffusion 1 or 2'];
    throw new UsageError(
      `"${part.path}" is a LoRA for ${lora}, and "${base}" is a checkpoint of ${checkpoint}.`,
      'name the checkpoint that it was trained on',
    );
  }
  return { ...part, isCanonical, needsBase: families.has('GLoRA') };
}

function folderAt(path: string) {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === false) {
    throw new UsageError(`"${path}" is not a folder.`, '-o names the folder; files in it are called by their recipe');
  }
  return absolutePath(resolve(path));
}
