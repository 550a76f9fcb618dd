// Every combination of a recipe's keys, against the definitions carried out one direction at a time.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { choose } from '../../../src/runtime/surgery/resize/choice.ts';
import type { Scored } from '../../../src/runtime/surgery/resize/modules.ts';
import {
  type Recipe,
  type References,
  readRecipe,
  SCORE_KEYS,
  scoresOf,
  type WrittenRecipe,
} from '../../../src/runtime/surgery/resize/recipe.ts';

const positive = fc.double({ min: 0.01, max: 30, noNaN: true });

/** Singular values in descending order, as singles, and what is known of the base weight. */
const someModule = fc.record({
  sigma: fc.array(positive, { minLength: 1, maxLength: 7 }).map((values) => Float32Array.from(values).sort().reverse()),
  parameters: fc.integer({ min: 2, max: 4000 }),
  fro: positive,
  spn: positive,
  along: fc.array(positive, { minLength: 7, maxLength: 7 }),
  least: fc.constantFrom(0 as const, 0 as const, 1 as const),
});
type SomeModule = typeof someModule extends fc.Arbitrary<infer T> ? T : never;

const weight = fc.double({ min: -2, max: 3, noNaN: true });
const ranks = fc.tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 }));
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });

const someRecipe: fc.Arbitrary<WrittenRecipe> = fc
  .record({
    weights: fc.dictionary(fc.constantFrom(...SCORE_KEYS), weight, { maxKeys: 3 }),
    thr: maybe(fc.double({ min: -4, max: 2, noNaN: true })),
    size: maybe(fc.double({ min: 0.001, max: 0.08, noNaN: true })),
    rescale: fc.constantFrom(1, 0.5, 3),
    ranks: maybe(ranks),
    isMin: fc.boolean(),
    isMax: fc.boolean(),
    sv_ratio: maybe(fc.double({ min: 1, max: 40, noNaN: true })),
    sv_fro: maybe(fc.double({ min: 0.1, max: 1, noNaN: true })),
    sv_cumulative: maybe(fc.double({ min: 0.1, max: 1, noNaN: true })),
  })
  .map(
    ({ weights, ranks: bounds, isMin, isMax, ...rest }): WrittenRecipe => ({
      ...weights,
      ...rest,
      min_rank: bounds && isMin ? Math.min(...bounds) : undefined,
      max_rank: bounds && isMax ? Math.max(...bounds) : undefined,
    }),
  )
  .filter(
    (recipe) => Math.abs(SCORE_KEYS.reduce((sum, key) => sum + (recipe[key] ?? 0), 0)) > 0.01 || !hasWeights(recipe),
  );

function hasWeights(recipe: WrittenRecipe): boolean {
  return SCORE_KEYS.some((key) => recipe[key] !== undefined);
}

const nameOf = (index: number): string => `module_${index}`;

function referencesOf(modules: readonly SomeModule[]): References {
  const by = <T>(pick: (module: SomeModule) => T) => new Map(modules.map((module, i) => [nameOf(i), pick(module)]));
  return { fro_ckpt: by(({ fro }) => fro), spn_ckpt: by(({ spn }) => spn), subspace: by(({ along }) => along) };
}

/** log10 σ + log10 rescale − Σ weight / (sum of weights) · log10 reference */
function scoreByDefinition(module: SomeModule, at: number, written: WrittenRecipe, isDefault: boolean): number {
  const sigma = module.sigma[at] ?? 0;
  const all = isDefault ? { fro_ckpt: 1 } : written;
  const sum = SCORE_KEYS.reduce((total, key) => total + ((all as WrittenRecipe)[key] ?? 0), 0);
  const reference = {
    fro_ckpt: module.fro,
    spn_ckpt: module.spn,
    subspace: module.along[at] ?? 0,
    params: module.parameters,
    spn_lora: module.sigma[0] ?? 0,
    fro_lora: Math.sqrt(module.sigma.reduce((total, value) => total + value * value, 0)),
  };
  return SCORE_KEYS.reduce(
    (score, key) => score - (((all as WrittenRecipe)[key] ?? 0) / (sum || 1)) * Math.log10(reference[key]),
    Math.log10(sigma) + Math.log10(written.rescale ?? 1),
  );
}

/** How many singular values, from the strongest, a module's own spectrum lets stay. */
function spectrumByDefinition(values: readonly number[], { sv_ratio, sv_fro, sv_cumulative }: WrittenRecipe): number {
  const fewest = (terms: readonly number[], share: number): number => {
    const sum = (some: readonly number[]) => some.reduce((total, value) => total + value, 0);
    for (let count = 1; count <= terms.length; count += 1) {
      if (sum(terms.slice(0, count)) >= share * sum(terms)) return count;
    }
    return terms.length;
  };
  return Math.min(
    values.length,
    sv_ratio === undefined
      ? Infinity
      : Math.max(1, values.filter((value) => value > (values[0] ?? 0) / sv_ratio).length),
    sv_fro === undefined
      ? Infinity
      : fewest(
          values.map((value) => value ** 2),
          sv_fro ** 2,
        ),
    sv_cumulative === undefined ? Infinity : fewest(values, sv_cumulative),
  );
}

interface Direction {
  readonly module: number;
  readonly at: number;
  readonly score: number;
}

/** A made-up cost: a header, an alpha for each module, and each direction's numbers in halves. */
function sizeOf(modules: readonly SomeModule[], kept: readonly (readonly unknown[])[]): number {
  return kept.reduce(
    (sum, indices, i) => sum + (indices.length > 0 ? 90 : 0) + 2 * indices.length * (modules[i]?.parameters ?? 0),
    1000,
  );
}

function chosenByDefinition(modules: readonly SomeModule[], written: WrittenRecipe, recipe: Recipe): string[] {
  const isDefault = recipe.weights.size === 1 && !hasWeights(written);
  const directions: Direction[] = modules.flatMap((module, index) =>
    Array.from(module.sigma, (_, at) => ({
      module: index,
      at,
      score: scoreByDefinition(module, at, written, isDefault),
    })),
  );
  const ordered = directions.sort((a, b) => b.score - a.score || a.module - b.module || a.at - b.at);
  const kept = new Set<Direction>();
  const countIn = (module: number) => [...kept].filter((each) => each.module === module).length;
  for (const each of ordered) {
    if (countIn(each.module) < Math.max(written.min_rank ?? 0, modules[each.module]?.least ?? 0)) kept.add(each);
  }
  const allowed = modules.map(({ sigma }) => spectrumByDefinition([...sigma], written));
  const asLists = (some: Iterable<Direction>) =>
    modules.map((_, module) => [...some].filter((each) => each.module === module));
  for (const each of ordered) {
    const isIn = each.at < (allowed[each.module] ?? 0) && countIn(each.module) < (written.max_rank ?? Infinity);
    if (kept.has(each) || !isIn) continue;
    if (recipe.limit.kind === 'thr' && each.score < recipe.limit.score) break;
    if (recipe.limit.kind === 'size' && sizeOf(modules, asLists([...kept, each])) + 640 > recipe.limit.bytes) break;
    kept.add(each);
  }
  return [...kept].map(({ module, at }) => `${module}:${at}`).sort();
}

test('what stays is what the definitions say, for any combination of keys', async () => {
  let compared = 0;
  const property = fc.asyncProperty(
    fc.array(someModule, { minLength: 1, maxLength: 4 }),
    someRecipe,
    async (modules, written) => {
      const recipe = readRecipe(written);
      const references = referencesOf(modules);
      const scored = modules.map(({ sigma, parameters, least }, index): Scored => {
        const name = nameOf(index);
        const scores = scoresOf({ name, sigma, parameters }, recipe, references);
        if (scores === undefined) throw new Error('a number is missing');
        const shape = { out: 1, width: 1, alpha: 1, upShape: [1, 1], downShape: [1, 1], residual: 0, discarded: 0 };
        return { name, sigma, parameters, scores, least, ...shape };
      });
      const sizeWith = async (kept: readonly (readonly number[])[]) => sizeOf(modules, kept);
      const wanted = chosenByDefinition(modules, written, recipe);
      const chosen = await choose({ modules: scored, hasMore: false, recipe, sizeWith }).catch((error: Error) => error);
      if (chosen instanceof Error) {
        const isForced = written.min_rank !== undefined || modules.some(({ least }) => least > 0);
        expect(chosen.message).toMatch(
          isForced ? /the file has at least|Nothing would be left/ : /Nothing would be left/,
        );
        if (chosen.message.startsWith('Nothing')) expect(wanted).toEqual([]);
        return;
      }
      compared += 1;
      expect(chosen.kept.flatMap((indices, module) => indices.map((at) => `${module}:${at}`)).sort()).toEqual(wanted);
      for (const indices of chosen.kept) expect(indices).toEqual(indices.toSorted((a, b) => a - b));
      if (recipe.limit.kind === 'size')
        expect(sizeOf(modules, chosen.kept) + 640).toBeLessThanOrEqual(recipe.limit.bytes);
    },
  );
  await fc.assert(property, { numRuns: 600 });
  expect(compared).toBeGreaterThan(300);
});
