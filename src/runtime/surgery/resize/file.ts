// The file that a choice of directions gives, in the format that is asked for.

import type { SafetensorsFile } from '../../safetensors/file.ts';
import type { TensorShape } from '../../safetensors/layout.ts';
import { sizeWithHashes, type TensorToWrite } from '../../safetensors/writer.ts';
import { type FormattedLora, inFormat } from '../in-format.ts';
import { Verification } from './check.ts';
import type { Kept } from './choice.ts';
import { resizedMetadata } from './metadata.ts';
import type { Scored } from './modules.ts';
import type { Recipe } from './recipe.ts';
import { keptTensors, shapesWith } from './tensors.ts';

export interface ResizedParts {
  readonly original: SafetensorsFile;
  /** What messages call the original. */
  readonly label: string;
  readonly factors: SafetensorsFile;
  readonly modules: readonly Scored[];
  /** What is written beside their directions. */
  readonly beside: readonly TensorToWrite[];
  readonly recipe: Recipe;
}

/** Throws a `StageFailure` where the format has no words for something. */
export async function resizedFile(parts: ResizedParts, kept: Kept, verification: Verification): Promise<FormattedLora> {
  const { factors, modules, beside, recipe, label } = parts;
  const made = modules.flatMap((module, index) => {
    const indices = kept[index] ?? [];
    return indices.length === 0 ? [] : keptTensors({ file: factors, module, kept: indices, recipe, verification });
  });
  const lora = { tensors: [...beside, ...made], metadata: metadataWith(parts, kept) };
  // What is made here has the names of that format already.
  return recipe.format === 'kohya' ? lora : inFormat({ path: label, ...lora }, recipe.format);
}

/** To the byte, hashes included. Makes nothing. */
export async function sizeOfResized(parts: ResizedParts, kept: Kept): Promise<number> {
  const { modules, beside, recipe } = parts;
  if (recipe.format !== 'kohya') {
    const { tensors, metadata } = await resizedFile(parts, kept, new Verification(recipe));
    return sizeWithHashes(tensors, metadata);
  }
  const made: TensorShape[] = modules.flatMap((module, index) => {
    const rank = kept[index]?.length ?? 0;
    return rank === 0 ? [] : Object.values(shapesWith(module, rank, recipe.precision));
  });
  return sizeWithHashes([...beside, ...made], metadataWith(parts, kept));
}

function metadataWith({ original, modules, recipe }: ResizedParts, kept: Kept) {
  return resizedMetadata(
    original.header.metadata,
    recipe,
    modules.map((module, index) => ({ module, rank: kept[index]?.length ?? 0 })),
  );
}
