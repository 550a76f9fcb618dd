// What an ablation measured, and what follows from it: how much of a LoRA's effect each block carries.
//
// For one prompt, with d for the distance of two pictures and n, a, o, w for those of no block, all blocks, only this
// block, all but this block:
//
//   only     1 − d(o, a) / d(n, a)    how far this block alone goes the way from none to all
//   without  d(w, a) / d(n, a)        how much of that way is lost when this block is off
//   effect   (only + without) / 2     what blocks are ranked by: a block matters if it does something by itself, and if
//                                     nothing else does it in its place
//
// Each is the mean over all prompts for which the LoRA changes anything, so that every prompt counts alike. `only` is
// below 0 for a block that leads away, and the sum over blocks need not be 1: blocks act upon each other.
//
// Pictures are computed in rounded numbers, and many steps make a little rounding visible. With m for the picture of all
// blocks at a strength that is 1 but for next to nothing,
//
//   floor    d(m, a) / d(n, a)        is the share that says nothing: what rounding alone moves

import type { SamplePrompt } from '../../worker/protocol.ts';

/** The output `ablation`. */
export interface Ablation {
  readonly prompts: readonly PromptAblation[];
  readonly mixed_precision: 'bf16' | 'fp32';
  /** The share of the effect that rounding alone makes; `null` when the LoRA changes nothing. */
  readonly floor: number | null;
  /** In the order of the network. Empty when the LoRA changes nothing for any of the prompts. */
  readonly blocks: readonly BlockEffect[];
  /** The names of the blocks, the most important first. */
  readonly ranking: readonly string[];
  /** Those of the ranking that are no farther from a neighbour than the floor, so that rounding may have placed them. */
  readonly unsure: readonly string[];
  /** The share of the effect that was asked for, above 0 and at most 1. */
  readonly wanted: number;
  /** What to keep for it; `null` when the LoRA changes nothing. All blocks when no fewer reach the share. */
  readonly proposal: Kept | null;
  /** Every beginning of the ranking whose picture was looked at, the shortest first. */
  readonly tried: readonly Kept[];
}

export interface PromptAblation {
  readonly prompt: SamplePrompt;
  /** From the picture without the LoRA to the one with all of it: the root mean square over sRGB values, 0 to 1. */
  readonly distance: number;
  /** As far rounding alone moves the picture with all of it; `null` when no prompt is changed. */
  readonly floor: number | null;
  readonly blocks: { readonly [block: string]: BlockDistances };
}

/** From the pictures with only this block, and with all but it, to those of all and of none. */
export interface BlockDistances {
  readonly only: { readonly fromAll: number; readonly fromNone: number };
  readonly without: { readonly fromAll: number; readonly fromNone: number };
}

/** Shares of the distance between none and all. */
export interface BlockEffect {
  readonly block: string;
  readonly only: number;
  readonly without: number;
  readonly effect: number;
}

/** Some blocks, in the order of the ranking, and the share of the effect that their picture was seen to have. */
export interface Kept {
  readonly keep: readonly string[];
  readonly share: number;
}

/** The effects of blocks that were all tried, in the order in which they are given. */
export function effectsOf(blocks: readonly string[], prompts: readonly PromptAblation[]): readonly BlockEffect[] {
  return blocks.map((block) => {
    const only = meanShare(prompts, (prompt) => 1 - distancesOf(prompt, block).only.fromAll / prompt.distance);
    const without = meanShare(prompts, (prompt) => distancesOf(prompt, block).without.fromAll / prompt.distance);
    return { block, only, without, effect: (only + without) / 2 };
  });
}

/** The strongest first; of equal ones that which comes first in the network. */
export function rankingOf(effects: readonly BlockEffect[]): readonly string[] {
  return effects.toSorted((a, b) => b.effect - a.effect).map(({ block }) => block);
}

/** Blocks whose effect is no farther from that of a neighbour in the ranking than `floor`, the most important first. */
export function unsurePlaces(effects: readonly BlockEffect[], floor: number): readonly string[] {
  const ranked = effects.toSorted((a, b) => b.effect - a.effect);
  const isClose = (a: BlockEffect | undefined, b: BlockEffect | undefined): boolean =>
    floor > 0 && a !== undefined && b !== undefined && a.effect - b.effect <= floor;
  return ranked
    .filter((one, place) => isClose(ranked[place - 1], one) || isClose(one, ranked[place + 1]))
    .map(({ block }) => block);
}

/** The mean over the prompts for which there is anything to have a share of. */
export function meanShare<Prompt extends { readonly distance: number }>(
  prompts: readonly Prompt[],
  shareOf: (prompt: Prompt) => number,
): number {
  const shares = prompts.filter(({ distance }) => distance > 0).map(shareOf);
  return shares.reduce((sum, share) => sum + share, 0) / shares.length;
}

function distancesOf({ blocks }: PromptAblation, block: string): BlockDistances {
  const distances = blocks[block];
  if (distances === undefined) throw new Error(`Internal error: "${block}" was not measured for a prompt.`);
  return distances;
}
