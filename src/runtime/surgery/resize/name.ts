// What resize_lora would call the file that a recipe gives, so that scripts find it: hero_frockpt1_th-3.55.safetensors.
//
// Weights are divided by their sum and have at most two decimals, like a threshold that follows from a size.
// Numbers that somebody wrote stand as written, so that two thresholds never share a name.

import { MODULE_KEYS, readRecipe, type WrittenRecipe } from './recipe.ts';

/** `threshold` is what the stage recorded: a number, or a word where every direction stays. */
export function resizedName(stem: string, written: WrittenRecipe, threshold: unknown): string {
  const { limit } = readRecipe(written);
  const lowest = limit.kind === 'size' ? (typeof threshold === 'number' ? short(threshold) : '-inf') : undefined;
  const end = { thr: `_th${written.thr ?? -3.55}`, size: `_th${lowest}`, none: '' }[limit.kind];
  return `${nameBeforeThreshold(stem, written)}${end}.safetensors`;
}

/** All of the name that is known before a size has been filled. */
export function nameBeforeThreshold(stem: string, written: WrittenRecipe): string {
  const { weights, limit, modules, rescale, extract } = readRecipe(written);
  const parts = [...weights].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, weight]) => plain(key) + short(weight));
  if (rescale !== 1) parts.push(`scale${rescale}`);
  if (limit.kind === 'size') parts.push(`size${written.size}`);
  for (const key of MODULE_KEYS) if (modules[key] !== undefined) parts.push(plain(key) + modules[key]);
  if (extract !== undefined) parts.push(`extract${extract}`);
  return [stem, ...parts].join('_');
}

function plain(key: string): string {
  return key.replaceAll('_', '');
}

function short(value: number): string {
  return String(Number(value.toFixed(2)));
}
