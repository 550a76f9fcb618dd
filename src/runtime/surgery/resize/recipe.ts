// How a resize decides: each direction of each module gets a score, and those with high scores stay.
//
//   score = log10 σ + log10 rescale − Σ weight · log10 reference        weights divided by their sum
//
//   fro_ckpt  ‖W‖ of the base weight        spn_ckpt  its largest singular value
//   fro_lora  ‖ΔW‖ of the module            spn_lora  its largest singular value
//   subspace  |uᵀ W v| for each direction   params    numbers that a direction costs: out + in · k²
//
// Beside that, each module by itself, of its singular values σ from the strongest on:
//
//   sv_ratio p       those above σ₁ / p                       sv_fro p   the fewest with √Σσ² ≥ p of all
//   sv_cumulative p  the fewest with Σσ ≥ p of all            at least one direction in each case
//   max_rank         the best so many                         min_rank   the best so many, whatever else is said
//
// Where one of these is written and neither thr nor size, scores only put directions in order.
//
//   extract n        modules of LoHa, LoKr, GLoRA and full first become LoRA of at most this rank; the decomposition does it

import type { LoraFormat } from '../../../parser/lora-formats.ts';
import { StageFailure } from '../../events.ts';
import type { Json } from '../../graph/json.ts';

export const SCORE_KEYS = ['fro_ckpt', 'spn_ckpt', 'spn_lora', 'fro_lora', 'subspace', 'params'] as const;
export type ScoreKey = (typeof SCORE_KEYS)[number];
export type Precision = 'fp16' | 'bf16' | 'fp32';

/** Cuts each module by its own singular values. */
export const SPECTRUM_KEYS = ['sv_ratio', 'sv_fro', 'sv_cumulative'] as const;
export type SpectrumKey = (typeof SPECTRUM_KEYS)[number];

/** What is said about modules one by one, and not about the LoRA as a whole. */
export const MODULE_KEYS = ['min_rank', 'max_rank', ...SPECTRUM_KEYS] as const;
export type ModuleKey = (typeof MODULE_KEYS)[number];

export interface Recipe {
  /** Divided by their sum; only those that are not 0. Empty: the score is the singular value alone. */
  readonly weights: ReadonlyMap<ScoreKey, number>;
  /** Directions stay from this score on, as many of the best as fit this many bytes, or whatever their score is. */
  readonly limit:
    | { readonly kind: 'thr'; readonly score: number }
    | { readonly kind: 'size'; readonly bytes: number }
    | { readonly kind: 'none' };
  /** Those that are written. */
  readonly modules: { readonly [key in ModuleKey]?: number };
  readonly rescale: number;
  readonly precision: Precision;
  /** `undefined`: modules of other families are kept whole. */
  readonly extract: number | undefined;
  readonly format: LoraFormat;
}

/** What a program can write. */
export type WrittenRecipe = { readonly [key in ScoreKey | ModuleKey]?: number | undefined } & {
  readonly thr?: number | undefined;
  /** MiB. Goes before `thr`. */
  readonly size?: number | undefined;
  readonly rescale?: number | undefined;
  readonly precision?: Precision | undefined;
  readonly extract?: number | undefined;
  /** Said by the command line alone: in a program it is `save` that decides on a format. */
  readonly format?: LoraFormat | undefined;
};

/** The part of a fingerprint that is equal for recipes that mean the same: a recipe without keys is `fro_ckpt = 1`. */
export function recipeAttributes(written: WrittenRecipe): { readonly [name: string]: Json } {
  const { weights, limit, modules, rescale, precision, extract, format } = readRecipe(written);
  return {
    ...Object.fromEntries(weights),
    ...(limit.kind === 'thr' && { thr: limit.score }),
    ...(limit.kind === 'size' && { size: written.size ?? 0 }),
    ...modules,
    rescale,
    precision,
    ...(extract !== undefined && { extract }),
    ...(format !== 'kohya' && { format }),
  };
}

export function readRecipe(written: WrittenRecipe): Recipe {
  const modules = Object.fromEntries(
    MODULE_KEYS.flatMap((key) => (written[key] === undefined ? [] : [[key, written[key]] as const])),
  );
  const limit = limitOf(written);
  const { rescale = 1, precision = 'fp16', extract, format = 'kohya' } = written;
  return { weights: weightsOf(written, limit), limit, modules, rescale, precision, extract, format };
}

/** A threshold stands for nothing else being said; a smallest rank says nothing about what goes. */
function limitOf({ thr, size, ...written }: WrittenRecipe): Recipe['limit'] {
  if (size !== undefined) return { kind: 'size', bytes: Math.floor(size * 2 ** 20) };
  const isCut = MODULE_KEYS.some((key) => key !== 'min_rank' && written[key] !== undefined);
  return thr === undefined && isCut ? { kind: 'none' } : { kind: 'thr', score: thr ?? -3.55 };
}

function weightsOf(written: WrittenRecipe, limit: Recipe['limit']): Recipe['weights'] {
  const named = SCORE_KEYS.filter((key) => written[key] !== undefined);
  if (named.length === 0) return new Map(limit.kind === 'none' ? [] : [['fro_ckpt', 1]]);
  const pairs = named.map((key) => [key, written[key] ?? 0] as const);
  const sum = pairs.reduce((total, [, weight]) => total + weight, 0);
  if (sum === 0 || !Number.isFinite(sum)) {
    throw new StageFailure({
      kind: 'bad-input',
      message: `The weights of ${named.join(', ')} add up to ${sum}, and scores need them to have a sum other than 0.`,
    });
  }
  return new Map(pairs.filter(([, weight]) => weight !== 0).map(([key, weight]) => [key, weight / sum]));
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
