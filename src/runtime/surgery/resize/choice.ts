// Which directions of which modules stay.
//
// Rules:
// - What a module must keep (`min_rank`) stays first; then the best of what its own spectrum and `max_rank` allow,
//   down to the threshold or until the file is full.
// - A size is never exceeded: tensors, alphas, header and metadata count, and room for a longer name is kept.
// - Equal scores are decided by the module's name, then by strength.

import { StageFailure } from '../../events.ts';
import type { Scored } from './modules.ts';
import { type Recipe, SPECTRUM_KEYS, type SpectrumKey } from './recipe.ts';

export interface Plan {
  /** Sorted by name. */
  readonly modules: readonly Scored[];
  /** Whether anything is written beside their directions. */
  readonly hasMore: boolean;
  readonly recipe: Recipe;
  /** Of the file with these directions, by module, in bytes. */
  sizeWith(kept: Kept): Promise<number>;
}

/** Directions by module. */
export type Kept = readonly (readonly number[])[];

export interface Choice {
  /** The directions that stay, ascending. */
  readonly kept: Kept;
  /** No direction that was left out by its score alone has one above this. -∞ when none was. */
  readonly threshold: number;
}

/** `save` writes a file's name into its header, twice, later: at most this much. */
const ROOM_FOR_NAMES = 640;

/** Chooses by the scores of each module's directions. */
export async function choose(plan: Plan): Promise<Choice> {
  const { must, may } = candidates(plan, rankDirections(plan.modules));
  const inOrder = [...must, ...may];
  const { limit } = plan.recipe;
  const count = must.length + (await countOf(plan, may, inOrder));
  if (count === 0 && !plan.hasMore) throw nothingLeft(plan, inOrder[0]?.score);
  const kept = firstOf(plan, inOrder, count);
  const last = may[count - must.length - 1]?.score ?? -Infinity;
  const threshold = limit.kind === 'thr' ? limit.score : count === inOrder.length ? -Infinity : last;
  return { kept, threshold };
}

/** One direction of one module. */
interface Direction {
  readonly module: number;
  readonly index: number;
  readonly score: number;
}

/** All directions that can stay, the best first. */
function rankDirections(modules: readonly Scored[]): readonly Direction[] {
  const directions: Direction[] = [];
  for (const [module, { scores }] of modules.entries()) {
    for (const [index, score] of scores.entries()) if (score > -Infinity) directions.push({ module, index, score });
  }
  return directions.sort((a, b) => b.score - a.score || a.module - b.module || a.index - b.index);
}

/** What has to stay, and what may, the best first in both. */
function candidates(
  { modules, recipe }: Plan,
  ranked: readonly Direction[],
): { readonly must: readonly Direction[]; readonly may: readonly Direction[] } {
  const { min_rank = 0, max_rank = Infinity } = recipe.modules;
  const isFree = Object.keys(recipe.modules).length === 0 && modules.every(({ least }) => least === 0);
  if (isFree) return { must: [], may: ranked };
  const strong = modules.map(({ sigma }) => strongest(sigma, recipe));
  const must: Direction[] = [];
  const rest: Direction[] = [];
  const counts = modules.map(() => 0);
  for (const direction of ranked) {
    const least = Math.max(min_rank, modules[direction.module]?.least ?? 0);
    const isForced = (counts[direction.module] ?? 0) < least;
    if (isForced) counts[direction.module] = (counts[direction.module] ?? 0) + 1;
    (isForced ? must : rest).push(direction);
  }
  const may = rest.filter(({ module, index }) => {
    const isTaken = index < (strong[module] ?? 0) && (counts[module] ?? 0) < max_rank;
    if (isTaken) counts[module] = (counts[module] ?? 0) + 1;
    return isTaken;
  });
  return { must, may };
}

/** How many of a module's singular values its own spectrum lets stay: as all the rules that are written allow. */
function strongest(sigma: Float32Array, { modules }: Recipe): number {
  const counts = SPECTRUM_KEYS.map((key) => {
    const value = modules[key];
    return value === undefined ? sigma.length : Math.max(1, spectrumRules[key](sigma, value));
  });
  return Math.min(...counts);
}

const spectrumRules: { readonly [key in SpectrumKey]: (sigma: Float32Array, p: number) => number } = {
  sv_ratio: (sigma, p) => sigma.filter((value) => value > (sigma[0] ?? 0) / p).length,
  sv_fro: (sigma, p) => fewest(sigma, p * p, (value) => value * value),
  sv_cumulative: (sigma, p) => fewest(sigma, p, (value) => value),
};

/** The fewest, from the strongest on, that make up this share of all. */
function fewest(sigma: Float32Array, share: number, weigh: (value: number) => number): number {
  let sum = 0;
  const sums = Array.from(sigma, (value) => {
    sum += weigh(value);
    return sum;
  });
  return sums.findIndex((partial) => partial >= share * sum) + 1;
}

/** How many of those that may stay do. */
async function countOf(plan: Plan, may: readonly Direction[], inOrder: readonly Direction[]): Promise<number> {
  const { limit } = plan.recipe;
  switch (limit.kind) {
    case 'thr':
      return countAbove(may, limit.score);
    case 'size':
      return countWithin(plan, inOrder, { bytes: limit.bytes, atLeast: inOrder.length - may.length });
    case 'none':
      return may.length;
  }
}

function countAbove(ranked: readonly Direction[], score: number): number {
  const first = ranked.findIndex((direction) => direction.score < score);
  return first < 0 ? ranked.length : first;
}

/** How many more than `atLeast` fit. More directions make a larger file, so halving finds the place. */
async function countWithin(
  plan: Plan,
  inOrder: readonly Direction[],
  { bytes, atLeast }: { readonly bytes: number; readonly atLeast: number },
): Promise<number> {
  const sizeOf = async (count: number) => (await plan.sizeWith(firstOf(plan, inOrder, count))) + ROOM_FOR_NAMES;
  const fits = async (count: number): Promise<boolean> => (await sizeOf(count)) <= bytes;
  const isEmpty = atLeast === 0 && !plan.hasMore;
  if (!isEmpty && !(await fits(atLeast))) throw minimumTooLarge(plan.recipe, await sizeOf(atLeast), bytes);
  let low = atLeast;
  let high = inOrder.length;
  if (await fits(high)) return high - atLeast;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (await fits(middle)) low = middle;
    else high = middle;
  }
  return low - atLeast;
}

function firstOf({ modules }: Plan, inOrder: readonly Direction[], count: number): Kept {
  const kept: number[][] = modules.map(() => []);
  for (let i = 0; i < count; i += 1) {
    const direction = inOrder[i];
    if (direction) kept[direction.module]?.push(direction.index);
  }
  for (const indices of kept) indices.sort((a, b) => a - b);
  return kept;
}

function minimumTooLarge({ modules: { min_rank } }: Recipe, needed: number, bytes: number): StageFailure {
  const kept = min_rank === undefined ? 'With what is kept whole' : `With min_rank = ${min_rank}`;
  return new StageFailure({
    kind: 'nothing-left',
    message: `${kept} the file has at least ${mebibytes(needed)} MiB, and size is ${mebibytes(bytes)}.`,
    hint: min_rank === undefined ? 'Write a larger size.' : 'Write a larger size or a smaller min_rank.',
  });
}

function nothingLeft(plan: Plan, best: number | undefined): StageFailure {
  const { limit } = plan.recipe;
  if (plan.modules.length === 0 || best === undefined || limit.kind === 'none') {
    return new StageFailure({
      kind: 'nothing-left',
      message: 'Nothing would be left: no module of the LoRA holds anything.',
    });
  }
  if (limit.kind === 'size') {
    return new StageFailure({
      kind: 'nothing-left',
      message: `Nothing would be left: not one direction fits ${mebibytes(limit.bytes)} MiB beside the header.`,
      hint: 'Write a larger size.',
    });
  }
  return new StageFailure({
    kind: 'nothing-left',
    message: `Nothing would be left: thr is ${limit.score}, and the best score of a direction is ${best.toFixed(3)}.`,
    // Rounded down, so that what is written keeps something.
    hint: `Write a thr of ${(Math.floor(best * 100) / 100).toFixed(2)} or less.`,
  });
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(3);
}
