// Recipes as resize_lora takes them: fro_ckpt=1,thr=-3.55:spn_lora,size=20. A key without a number weighs 1.
// A key with several numbers makes a recipe of each: fro_ckpt=1,thr=-3/-3.5/-4.

import { nearest } from '../parser/diagnostics/suggest.ts';
import { LARGEST_EXTRACT } from '../parser/schema/surgery.ts';
import { StageFailure } from '../runtime/events.ts';
import { MODULE_KEYS, readRecipe, SCORE_KEYS, type WrittenRecipe } from '../runtime/surgery/resize/recipe.ts';
import { UsageError } from './usage-error.ts';

const limits = ['thr', 'size', 'rescale', ...MODULE_KEYS, 'extract'] as const;
const keys: readonly string[] = [...SCORE_KEYS, ...limits];

/** What a number has to be, where not every number will do. */
const rules: { readonly [key: string]: { readonly words: string; readonly holds: (value: number) => boolean } } = {
  size: { words: 'above 0', holds: (value) => value > 0 },
  rescale: { words: 'above 0', holds: (value) => value > 0 },
  min_rank: { words: 'a whole number of at least 1', holds: isRank },
  max_rank: { words: 'a whole number of at least 1', holds: isRank },
  sv_ratio: { words: 'at least 1', holds: (value) => value >= 1 },
  sv_fro: { words: 'above 0 and at most 1', holds: isShare },
  sv_cumulative: { words: 'above 0 and at most 1', holds: isShare },
  extract: { words: `a whole number from 1 to ${LARGEST_EXTRACT}`, holds: isExtract },
};

function isRank(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1;
}

function isExtract(value: number): boolean {
  return isRank(value) && value <= LARGEST_EXTRACT;
}

function isShare(value: number): boolean {
  return value > 0 && value <= 1;
}

/** Several have colons between them. Throws `UsageError` that quotes what is wrong. */
export function readRecipes(text: string): readonly WrittenRecipe[] {
  return text.split(':').flatMap(spread).map(readOne);
}

/** Every combination of the numbers that keys have, in the order in which they are written. */
function spread(recipe: string): readonly string[] {
  const [first = [''], ...others] = recipe.split(',').map((item) => {
    const [, start, numbers = ''] = /^([^=]*=)(.*)$/.exec(item) ?? [];
    return start === undefined ? [item] : numbers.split('/').map((number) => start + number);
  });
  return others.reduce((before, items) => before.flatMap((some) => items.map((one) => `${some},${one}`)), first);
}

/** The rank of `--extract`. */
export function readExtract(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && isExtract(value)) return value;
  throw new UsageError(`--extract is "${text}", and it has to be a whole number from 1 to ${LARGEST_EXTRACT}.`);
}

function readOne(text: string): WrittenRecipe {
  const entries: (readonly [string, number])[] = [];
  for (const item of text.split(',').map((part) => part.trim())) {
    const [, key = '', value] = /^([^=]*?)\s*(?:=\s*(.*))?$/.exec(item) ?? [];
    if (!keys.includes(key)) throw unknownKey(text, key);
    if (entries.some(([known]) => known === key)) throw new UsageError(`The recipe "${text}" has ${key} twice.`);
    entries.push([key, readNumber(text, key, value)]);
  }
  const recipe = Object.fromEntries(entries) as WrittenRecipe;
  const { min_rank = 1, max_rank = Infinity } = recipe;
  if (min_rank > max_rank) {
    throw new UsageError(`In the recipe "${text}" min_rank is ${min_rank}, and max_rank is ${max_rank}.`);
  }
  try {
    readRecipe(recipe);
  } catch (error) {
    if (error instanceof StageFailure) throw new UsageError(`In the recipe "${text}": ${error.message}`);
    throw error;
  }
  return recipe;
}

function readNumber(recipe: string, key: string, text: string | undefined): number {
  if (text === undefined) {
    if ((SCORE_KEYS as readonly string[]).includes(key)) return 1;
    throw new UsageError(`In the recipe "${recipe}" ${key} has no number.`, `write ${key}=…`);
  }
  const value = text === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(value))
    throw new UsageError(`In the recipe "${recipe}" ${key} is "${text}", and that is no number.`);
  const rule = rules[key];
  if (rule && !rule.holds(value))
    throw new UsageError(`In the recipe "${recipe}" ${key} is ${value}, and it has to be ${rule.words}.`);
  return value;
}

function unknownKey(recipe: string, key: string): UsageError {
  const meant = nearest(key, keys);
  const what = key === '' ? 'an empty part' : `the unknown key "${key}"`;
  return new UsageError(
    `The recipe "${recipe}" has ${what}.`,
    meant === undefined ? `keys are ${keys.join(', ')}` : `there is ${meant}`,
  );
}
