// A smaller LoRA: the directions whose score is high enough, from a decomposition that is already there.
// Only the rows that stay are read, so that another threshold costs what its result weighs.
//
// What is written is verified while it is in memory, direction by direction, and how far it is from the original is told.

import { readFile } from 'node:fs/promises';
import { pathIn } from '../graph/paths.ts';
import { CHECKPOINT_LIMITS } from '../safetensors/header.ts';
import { writeSafetensors } from '../safetensors/writer.ts';
import { groupModules } from '../sdxl/lora.ts';
import type { Stage, StageContext } from '../stage.ts';
import { describeDifference, inexact, Verification } from '../surgery/resize/check.ts';
import { choose } from '../surgery/resize/choice.ts';
import { readFactors } from '../surgery/resize/factors.ts';
import { resizedFile, sizeOfResized } from '../surgery/resize/file.ts';
import { keptBeside, remarksOn, sortModules } from '../surgery/resize/modules.ts';
import {
  parseReferences,
  type Reference,
  type References,
  readRecipe,
  recipeAttributes,
  type WrittenRecipe,
} from '../surgery/resize/recipe.ts';
import { openLora, openWeights } from '../surgery/weights-file.ts';
import { inputOf } from './input-of.ts';

export const resize: Stage = {
  name: 'resize',
  revision: 4,
  pool: 'cpu',
  runsIn: 'native',
  canonical: recipeAttributes,
  async run(context) {
    const recipe = readRecipe(context.node.attributes as WrittenRecipe);
    const references = await readReferences(context);
    await using original = await openLora(inputOf(context, 'lora').path);
    await using factors = await openWeights(inputOf(context, 'factors').path, CHECKPOINT_LIMITS);
    const decomposition = await readFactors(factors);
    const content = groupModules(original.header.tensors.keys());
    const sorted = sortModules(content, decomposition, recipe, references);
    for (const remark of remarksOn(sorted)) context.report({ type: 'log', ...remark });

    const beside = keptBeside(original, sorted, recipe);
    // Stored results have paths that say nothing.
    const { files, inputs } = context.node;
    const label = files.lora ?? inputs.lora?.node ?? original.path;
    const parts = { original, label, factors, modules: sorted.scored, beside, recipe };
    const { kept, threshold } = await choose({
      modules: sorted.scored,
      hasMore: beside.length > 0,
      recipe,
      sizeWith: (some) => sizeOfResized(parts, some),
    });
    const output = pathIn(context.work, 'lora.safetensors');
    const verification = new Verification(recipe);
    await writeSafetensors({
      path: output,
      ...(await resizedFile(parts, kept, verification)),
      hashes: true,
      signal: context.signal,
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });

    const difference = verification.difference(sorted.scored, kept);
    for (const message of inexact(sorted.scored)) context.report({ type: 'log', level: 'warning', message });
    context.report({ type: 'log', level: 'result', message: describeDifference(difference, recipe.precision) });
    const { all, rounding, residual, leftOut, worst } = difference;
    return {
      outputs: { lora: output },
      record: {
        threshold: Number.isFinite(threshold) ? threshold : 'none',
        difference: all,
        rounding,
        residual,
        leftOut,
        ...(worst && { worstModule: worst.module, worstDifference: worst.part }),
      },
    };
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
