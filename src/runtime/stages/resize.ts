// A smaller LoRA: the directions whose score is high enough, from a decomposition that is already there.
// Only the rows that stay are read, so that another threshold costs what its result weighs.
//
// Rules:
// - A module that nothing can be said about (another family, no base weight) is kept whole and reported.
// - A module whose strongest singular value is below 1e-6 holds nothing and is left out; so is one that keeps no direction.

import { readFile } from 'node:fs/promises';
import { StageFailure } from '../events.ts';
import { pathIn } from '../graph/paths.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { CHECKPOINT_LIMITS } from '../safetensors/header.ts';
import { type TensorToWrite, writeSafetensors } from '../safetensors/writer.ts';
import { groupModules, type LoraModule, type LoraModules } from '../sdxl/lora.ts';
import type { Stage, StageContext } from '../stage.ts';
import { choose, metadataFor } from './resize-choice.ts';
import { type FactorModule, keptTensors, readFactors } from './resize-factors.ts';
import {
  parseReferences,
  type Recipe,
  type Reference,
  type References,
  readRecipe,
  recipeAttributes,
  scoresOf,
  type WrittenRecipe,
} from './resize-recipe.ts';
import { copied, isLinear, weighted } from './weigh.ts';
import { listed, openLora, openWeights } from './weights-file.ts';

/** Below this a module's strongest direction is noise of the number format. */
const NOTHING = 1e-6;

export const resize: Stage = {
  name: 'resize',
  revision: 3,
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
    const { kept, threshold } = choose(plan, sorted.scores);
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
    return { outputs: { lora: output }, record: { threshold: Number.isFinite(threshold) ? threshold : 'none' } };
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
