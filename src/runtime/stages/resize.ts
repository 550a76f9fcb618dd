// A smaller LoRA: the directions whose score is high enough, from a decomposition that is already there.
// Only the rows that stay are read, so that another threshold costs what its result weighs.
//
// Rules:
// - A module that nothing can be said about (another family, no base weight) is kept whole and reported.
// - A module whose strongest singular value is below 1e-6 holds nothing and is left out; so is one that keeps no direction.
// - A size is never exceeded: tensors, alphas, header and metadata count, and room for a longer name is kept.

import { readFile } from 'node:fs/promises';
import { StageFailure } from '../events.ts';
import { pathIn } from '../graph/paths.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { CHECKPOINT_LIMITS } from '../safetensors/header.ts';
import type { Metadata, TensorShape } from '../safetensors/layout.ts';
import { sizeWithHashes, type TensorToWrite, writeSafetensors } from '../safetensors/writer.ts';
import { groupModules, type LoraModule, type LoraModules } from '../sdxl/lora.ts';
import type { Stage, StageContext } from '../stage.ts';
import { type FactorModule, keptTensors, readFactors, shapesWith } from './resize-factors.ts';
import { resizedMetadata } from './resize-metadata.ts';
import {
  type Direction,
  parseReferences,
  type Recipe,
  type Reference,
  type References,
  rankDirections,
  readRecipe,
  recipeAttributes,
  scoresOf,
  type WrittenRecipe,
} from './resize-recipe.ts';
import { copied, isLinear, weighted } from './weigh.ts';
import { listed, openLora, openWeights } from './weights-file.ts';

/** Below this a module's strongest direction is noise of the number format. */
const NOTHING = 1e-6;

/** `save` writes a file's name into its header, twice, later: at most this much. */
const ROOM_FOR_NAMES = 640;

export const resize: Stage = {
  name: 'resize',
  revision: 1,
  pool: 'cpu',
  runsIn: 'native',
  canonical: recipeAttributes,
  async run(context) {
    const { lora, factors } = context.inputs;
    if (lora === undefined || factors === undefined) throw new Error('Internal error: a resize lacks its inputs.');
    const recipe = readRecipe(context.node.attributes as WrittenRecipe);
    const references = await readReferences(context);
    await using original = await openLora(lora.path);
    await using decomposition = await openWeights(factors.path, CHECKPOINT_LIMITS);
    const content = groupModules(original.header.tensors.keys());
    const sorted = sortModules(content, await readFactors(decomposition), recipe, references);
    report(context, sorted);
    const whole = keptWhole(original, content, sorted.whole, recipe);
    const plan = { modules: sorted.scored, whole, recipe, metadata: original.header.metadata };
    const kept = choose(plan, rankDirections(sorted.scores));
    const output = pathIn(context.work, 'lora.safetensors');
    const { rescale, precision } = recipe;
    const made = sorted.scored.flatMap((module, index) => {
      const indices = kept[index] ?? [];
      return indices.length === 0
        ? []
        : keptTensors({ file: decomposition, module, kept: indices, rescale, precision });
    });
    await writeSafetensors({
      path: output,
      tensors: [...whole, ...made],
      metadata: metadataFor(
        plan,
        kept.map((indices) => indices.length),
      ),
      hashes: true,
      signal: context.signal,
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};

/** Numbers of the base weights, by the role under which they come. Each is there only when the recipe names its key. */
async function readReferences(context: StageContext): Promise<References> {
  const read = async (role: string): Promise<ReadonlyMap<string, Reference> | undefined> => {
    const artifact = context.inputs[role];
    return artifact && parseReferences(role, await readFile(artifact.path, 'utf8'));
  };
  const [fro_ckpt, spn_ckpt, subspace] = await Promise.all([read('frobenius'), read('spectral'), read('projections')]);
  return { ...(fro_ckpt && { fro_ckpt }), ...(spn_ckpt && { spn_ckpt }), ...(subspace && { subspace }) };
}

interface Sorted {
  /** Side by side: modules to choose directions of, and the scores. */
  readonly scored: readonly FactorModule[];
  readonly scores: readonly Float64Array[];
  readonly whole: readonly LoraModule[];
  readonly empty: readonly string[];
  readonly strangers: readonly string[];
}

function sortModules(
  content: LoraModules,
  factors: readonly FactorModule[],
  recipe: Recipe,
  references: References,
): Sorted {
  const scored: FactorModule[] = [];
  const scores: Float64Array[] = [];
  const whole: LoraModule[] = [];
  const empty: string[] = [];
  const decomposed = new Map(factors.map((module) => [module.name, module]));
  for (const module of content.modules) {
    const factor = decomposed.get(module.name);
    const isResizable = factor !== undefined && module.family === 'LoRA' && !module.isPeft;
    if (isResizable && (factor.sigma[0] ?? 0) < NOTHING) {
      empty.push(module.name);
      continue;
    }
    const found = isResizable ? scoresOf(factor, recipe, references) : undefined;
    if (factor === undefined || found === undefined) {
      whole.push(module);
    } else {
      scored.push(factor);
      scores.push(found);
    }
  }
  return { scored, scores, whole, empty, strangers: content.strangers };
}

function report(context: StageContext, { whole, empty, strangers }: Sorted): void {
  const say = (message: string): void => context.report({ type: 'log', level: 'warning', message });
  if (whole.length > 0) {
    const what = whole.length === 1 ? '1 module is' : `${whole.length} modules are`;
    say(`${what} kept whole, since there is nothing to score them by: ${listed(whole.map((module) => module.name))}.`);
  }
  if (strangers.length > 0) say(`Tensors that belong to no module are kept as they are: ${listed(strangers)}.`);
  if (empty.length > 0) {
    const what = empty.length === 1 ? '1 module holds nothing and is' : `${empty.length} modules hold nothing and are`;
    context.report({ type: 'log', level: 'info', message: `${what} left out: ${listed(empty)}.` });
  }
}

/** What no direction is chosen of. Rescaling is for the whole LoRA, so it reaches these too. */
function keptWhole(
  file: SafetensorsFile,
  content: LoraModules,
  whole: readonly LoraModule[],
  recipe: Recipe,
): readonly TensorToWrite[] {
  const rigid = recipe.rescale === 1 ? [] : whole.filter((module) => !isLinear(module));
  if (rigid.length > 0) {
    throw new StageFailure({
      kind: 'bad-input',
      message: `"rescale" cannot be given to ${listed(rigid.map((module) => module.name))}: modules of kind ${rigid[0]?.family} cannot be multiplied.`,
      hint: 'Write rescale = 1.',
    });
  }
  return [...whole.flatMap((module) => weighted(file, module, recipe.rescale)), ...copied(file, content.strangers)];
}

interface Plan {
  readonly modules: readonly FactorModule[];
  readonly whole: readonly TensorToWrite[];
  readonly recipe: Recipe;
  readonly metadata: Metadata | undefined;
}

/** The directions that stay, by module, ascending. `ranked` has the best first. */
function choose(plan: Plan, ranked: readonly Direction[]): readonly (readonly number[])[] {
  const { limit } = plan.recipe;
  const count = limit.kind === 'thr' ? countAbove(ranked, limit.score) : countWithin(plan, ranked, limit.bytes);
  if (count === 0 && plan.whole.length === 0) throw nothingLeft(plan, ranked[0]?.score);
  const kept: number[][] = plan.modules.map(() => []);
  for (const { module, index } of ranked.slice(0, count)) kept[module]?.push(index);
  for (const indices of kept) indices.sort((a, b) => a - b);
  return kept;
}

function countAbove(ranked: readonly Direction[], score: number): number {
  const first = ranked.findIndex((direction) => direction.score < score);
  return first < 0 ? ranked.length : first;
}

/** The most directions whose whole file fits. More directions make a larger file, so halving finds the place. */
function countWithin(plan: Plan, ranked: readonly Direction[], bytes: number): number {
  const fits = (count: number): boolean => sizeOfFirst(plan, ranked, count) + ROOM_FOR_NAMES <= bytes;
  let low = 0;
  let high = ranked.length;
  if (fits(high)) return high;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

function sizeOfFirst(plan: Plan, ranked: readonly Direction[], count: number): number {
  const ranks = new Array<number>(plan.modules.length).fill(0);
  for (let i = 0; i < count; i += 1) {
    const module = ranked[i]?.module ?? 0;
    ranks[module] = (ranks[module] ?? 0) + 1;
  }
  const made: TensorShape[] = plan.modules.flatMap((module, index) => {
    const rank = ranks[index] ?? 0;
    return rank === 0 ? [] : Object.values(shapesWith(module, rank, plan.recipe.precision));
  });
  return sizeWithHashes([...plan.whole, ...made], metadataFor(plan, ranks));
}

function metadataFor(plan: Plan, ranks: readonly number[]): Metadata {
  return resizedMetadata(
    plan.metadata,
    plan.recipe,
    plan.modules.map((module, index) => ({ module, rank: ranks[index] ?? 0 })),
  );
}

function nothingLeft(plan: Plan, best: number | undefined): StageFailure {
  const { limit } = plan.recipe;
  if (plan.modules.length === 0 || best === undefined) {
    return new StageFailure({
      kind: 'nothing-left',
      message: 'Nothing would be left: no module of the LoRA holds anything.',
    });
  }
  if (limit.kind === 'size') {
    return new StageFailure({
      kind: 'nothing-left',
      message: `Nothing would be left: not one direction fits ${(limit.bytes / 2 ** 20).toFixed(3)} MiB beside the header.`,
      hint: 'Write a larger size.',
    });
  }
  return new StageFailure({
    kind: 'nothing-left',
    message: `Nothing would be left: thr is ${limit.score}, and the best score of a direction is ${best.toFixed(3)}.`,
    hint: `Write a thr below ${best.toFixed(2)}.`,
  });
}
