// What a resized LoRA says about itself: all that the original said, with ranks that are true now, and the recipe.

import type { Metadata } from '../safetensors/layout.ts';
import type { FactorModule } from './resize-factors.ts';
import type { Recipe } from './resize-recipe.ts';
import { withHistory } from './weights-file.ts';

interface Ranked {
  readonly module: FactorModule;
  readonly rank: number;
}

/** The field's word for ranks that differ from module to module. */
const MANY = 'Dynamic';

export function resizedMetadata(metadata: Metadata | undefined, recipe: Recipe, modules: readonly Ranked[]): Metadata {
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
  const wide = kept.filter(({ module }) => module.downShape.slice(2).some((side) => side > 1));
  const narrow = kept.filter((entry) => !wide.includes(entry));
  const set = (key: string, value: string): void => {
    if (result.has(key)) result.set(key, value);
  };
  set('ss_network_dim', common(narrow.map(({ rank }) => rank)));
  set('ss_network_alpha', common(narrow.map(({ module }) => module.alpha)));
  const args = result.get('ss_network_args');
  if (args !== undefined) result.set('ss_network_args', withConvolutions(args, wide));
  return result;
}

/** LyCORIS keeps rank and alpha of convolutions among its arguments, as JSON of strings. */
function withConvolutions(args: string, wide: readonly Ranked[]): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(args);
  } catch (error) {
    if (error instanceof SyntaxError) return args;
    throw error;
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return args;
  const entries = new Map(Object.entries(parsed));
  if (entries.has('conv_dim')) entries.set('conv_dim', common(wide.map(({ rank }) => rank)));
  if (entries.has('conv_alpha')) entries.set('conv_alpha', common(wide.map(({ module }) => module.alpha)));
  return JSON.stringify(Object.fromEntries(entries));
}

function common(numbers: readonly number[]): string {
  const [first] = numbers;
  return first !== undefined && numbers.every((number) => number === first) ? String(first) : MANY;
}
