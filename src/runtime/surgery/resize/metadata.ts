// What a resized LoRA says about itself: all that the original said, with ranks that are true now, and the recipe.

import type { Metadata } from '../../safetensors/layout.ts';
import { setRanks } from '../rank-metadata.ts';
import { withHistory } from '../weights-file.ts';
import type { FactorModule } from './factors.ts';
import type { Recipe } from './recipe.ts';
import { alphaWith } from './tensors.ts';

interface Resized {
  readonly module: FactorModule;
  readonly rank: number;
}

export function resizedMetadata(metadata: Metadata | undefined, recipe: Recipe, modules: readonly Resized[]): Metadata {
  const { limit, weights, modules: cuts, rescale, precision, extract } = recipe;
  const result = withHistory(metadata, {
    stage: 'resize',
    weights: Object.fromEntries(weights),
    ...(limit.kind === 'thr' && { thr: limit.score }),
    ...(limit.kind === 'size' && { size: limit.bytes }),
    ...cuts,
    rescale,
    precision,
    ...(extract !== undefined && { extract }),
  });
  const kept = modules.filter(({ rank }) => rank > 0);
  setRanks(
    result,
    kept.map(({ module, rank }) => {
      const isWide = module.downShape.slice(2).some((side) => side > 1);
      return { rank, alpha: alphaWith(module, rank, recipe), isWide };
    }),
  );
  return result;
}
