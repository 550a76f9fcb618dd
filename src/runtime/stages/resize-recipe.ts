// How a resize decides: each direction of each module gets a score, and those with high scores stay.
//
//   score = log10 σ + log10 rescale − Σ weight · log10 reference        weights divided by their sum
//
//   fro_ckpt  ‖W‖ of the base weight        spn_ckpt  its largest singular value
//   fro_lora  ‖ΔW‖ of the module            spn_lora  its largest singular value
//   subspace  |uᵀ W v| for each direction   params    numbers that a direction costs: out + in · k²

import { StageFailure } from '../events.ts';
import type { Json } from '../graph/json.ts';

export const SCORE_KEYS = ['fro_ckpt', 'spn_ckpt', 'spn_lora', 'fro_lora', 'subspace', 'params'] as const;
export type ScoreKey = (typeof SCORE_KEYS)[number];
export type Precision = 'fp16' | 'bf16' | 'fp32';

export interface Recipe {
  /** Divided by their sum; only those that are not 0. */
  readonly weights: ReadonlyMap<ScoreKey, number>;
  /** Directions stay from this score on, or as many of the best as fit this many bytes. */
  readonly limit: { readonly kind: 'thr'; readonly score: number } | { readonly kind: 'size'; readonly bytes: number };
  readonly rescale: number;
  readonly precision: Precision;
}

/** What a program can write. */
export type WrittenRecipe = { readonly [key in ScoreKey]?: number | undefined } & {
  readonly thr?: number | undefined;
  /** MiB. Goes before `thr`. */
  readonly size?: number | undefined;
  readonly rescale?: number | undefined;
  readonly precision?: Precision | undefined;
};

/** The part of a fingerprint that is equal for recipes that mean the same: a recipe without keys is `fro_ckpt = 1`. */
export function recipeAttributes(written: WrittenRecipe): { readonly [name: string]: Json } {
  const { weights, limit, rescale, precision } = readRecipe(written);
  return {
    ...Object.fromEntries(weights),
    ...(limit.kind === 'thr' ? { thr: limit.score } : { size: written.size ?? 0 }),
    rescale,
    precision,
  };
}

export function readRecipe(written: WrittenRecipe): Recipe {
  const named = SCORE_KEYS.filter((key) => written[key] !== undefined);
  const pairs = named.length === 0 ? [['fro_ckpt', 1] as const] : named.map((key) => [key, written[key] ?? 0] as const);
  const sum = pairs.reduce((total, [, weight]) => total + weight, 0);
  if (sum === 0 || !Number.isFinite(sum)) {
    throw new StageFailure({
      kind: 'bad-input',
      message: `The weights of ${named.join(', ')} add up to ${sum}, and scores need them to have a sum other than 0.`,
    });
  }
  const weights = new Map(pairs.filter(([, weight]) => weight !== 0).map(([key, weight]) => [key, weight / sum]));
  const limit =
    written.size === undefined
      ? ({ kind: 'thr', score: written.thr ?? -3.55 } as const)
      : ({ kind: 'size', bytes: Math.floor(written.size * 2 ** 20) } as const);
  return { weights, limit, rescale: written.rescale ?? 1, precision: written.precision ?? 'fp16' };
}

/** A module's spectrum with what its directions cost. */
export interface Spectrum {
  readonly name: string;
  /** Singular values of ΔW, the strongest first. */
  readonly sigma: Float32Array;
  /** Numbers per direction: out + in · k². */
  readonly parameters: number;
}

/** What is known of a base weight: one number, or one for each direction of the module. */
export type Reference = number | readonly number[];

/** By key, then by module. */
export type References = {
  readonly [key in 'fro_ckpt' | 'spn_ckpt' | 'subspace']?: ReadonlyMap<string, Reference>;
};

/** Numbers as the worker writes them: a JSON object by module. `role` is what messages call them. */
export function parseReferences(role: string, json: string): ReadonlyMap<string, Reference> {
  const isNumber = (value: unknown): value is number => typeof value === 'number' && value >= 0;
  const parsed = JSON.parse(json) as { readonly [module: string]: unknown };
  const references = new Map<string, Reference>();
  for (const [module, value] of Object.entries(parsed)) {
    if (isNumber(value) || (Array.isArray(value) && value.every(isNumber))) references.set(module, value);
    else throw badReference(role, module);
  }
  return references;
}

/** `undefined` when the recipe asks for a number of the base weight that is not there. */
export function scoresOf(spectrum: Spectrum, recipe: Recipe, references: References): Float64Array | undefined {
  const { name, sigma } = spectrum;
  const scores = Float64Array.from(sigma, (value) =>
    value > 0 ? Math.log10(value) + Math.log10(recipe.rescale) : -Infinity,
  );
  for (const [key, weight] of recipe.weights) {
    const reference = referenceOf(spectrum, key, references);
    if (reference === undefined) return undefined;
    for (let i = 0; i < scores.length; i += 1) {
      const number = typeof reference === 'number' ? reference : reference[i];
      if (number === undefined) throw badReference(key, name);
      // A weight that is nothing at all would make the score endless; this is as far as it matters.
      scores[i] = (scores[i] ?? 0) - weight * Math.log10(Math.max(number, 1e-30));
    }
  }
  return scores;
}

function referenceOf(spectrum: Spectrum, key: ScoreKey, references: References): Reference | undefined {
  switch (key) {
    case 'spn_lora':
      return spectrum.sigma[0] ?? 0;
    case 'fro_lora':
      return Math.hypot(...spectrum.sigma);
    case 'params':
      return spectrum.parameters;
    default:
      return references[key]?.get(spectrum.name);
  }
}

function badReference(what: string, module: string): StageFailure {
  return new StageFailure({
    kind: 'non-finite',
    message: `The numbers of "${what}" have none for "${module}" that a score could be made of.`,
    hint: 'The checkpoint may be damaged.',
  });
}

/** One direction of one module. */
export interface Direction {
  readonly module: number;
  readonly index: number;
  readonly score: number;
}

/** All directions that can stay, the best first; equal scores by module, then by strength. `scores` are sorted by name. */
export function rankDirections(scores: readonly Float64Array[]): readonly Direction[] {
  const directions: Direction[] = [];
  for (const [module, values] of scores.entries()) {
    for (const [index, score] of values.entries()) if (score > -Infinity) directions.push({ module, index, score });
  }
  return directions.sort((a, b) => b.score - a.score || a.module - b.module || a.index - b.index);
}
