// What becomes of each module of a LoRA that is resized: directions are chosen of it, it is kept whole, or it is nothing.
//
// Rules:
// - A module that nothing can be said about (no decomposition, no base weight) is kept whole and reported.
// - A module whose strongest singular value is below 1e-6 holds nothing and is left out.
// - DoRA: its LoRA part is resized, and the magnitude stays. A magnitude means nothing without a LoRA beside it,
//   so such a module keeps at least one direction, and is kept whole where it has none.
// - What else a module has (a bias) stays, whatever becomes of its directions.

import { StageFailure } from '../../events.ts';
import type { SafetensorsFile } from '../../safetensors/file.ts';
import type { TensorToWrite } from '../../safetensors/writer.ts';
import type { Family, LoraModule, LoraModules } from '../../sdxl/lora.ts';
import { copied, isLinear, multiplied, weighted } from '../weigh.ts';
import { listed } from '../weights-file.ts';
import type { Decomposition, FactorModule } from './factors.ts';
import { type Recipe, type References, scoresOf } from './recipe.ts';

/** Below this a module's strongest direction is noise of the number format. */
const NOTHING = 1e-6;

/** A module to choose directions of. */
export interface Scored extends FactorModule {
  readonly scores: Float64Array;
  /** So many directions stay whatever their scores are. */
  readonly least: 0 | 1;
}

export interface Sorted {
  /** Sorted by name. */
  readonly scored: readonly Scored[];
  /** What `scored` were before. */
  readonly originals: readonly LoraModule[];
  readonly empty: readonly LoraModule[];
  readonly whole: readonly Whole[];
  readonly strangers: readonly string[];
}

interface Whole {
  readonly module: LoraModule;
  readonly why: string | undefined;
}

const NO_BASE_WEIGHT = 'the base has no weight to measure by';

/** Of a module that is resized, the tensors that its directions take the place of. Families that are not here have none. */
const REPLACED: { readonly [family in Family]?: RegExp } = {
  LoRA: /^(?:up|down|mid|alpha)$/,
  DoRA: /^(?:up|down|mid|alpha)$/,
  LoHa: /^(?:hada_.*|alpha)$/,
  LoKr: /^(?:lokr_.*|alpha)$/,
  GLoRA: /^(?:[ab][12]|alpha)$/,
  full: /^(?:diff|alpha)$/,
};

/** Throws a `StageFailure` where a recipe measures by a base that has nothing to do with the LoRA. */
export function sortModules(
  content: LoraModules,
  { modules: factors, skipped }: Decomposition,
  recipe: Recipe,
  references: References,
): Sorted {
  const scored: Scored[] = [];
  const originals: LoraModule[] = [];
  const whole: Whole[] = [];
  const empty: LoraModule[] = [];
  const decomposed = new Map(factors.map((module) => [module.name, module]));
  for (const module of content.modules) {
    const factor = decomposed.get(module.name);
    const isDora = hasMagnitude(module);
    if (factor === undefined || !isReplaceable(module)) {
      const isLeft = recipe.extract === undefined && isExtractable(module);
      whole.push({ module, why: isLeft ? 'extract = 64 makes LoRA of such modules first' : skipped.get(module.name) });
    } else if ((factor.sigma[0] ?? 0) < NOTHING) {
      if (isDora) whole.push({ module, why: 'its magnitude alone has an effect' });
      else empty.push(module);
    } else {
      const scores = scoresOf(factor, recipe, references);
      if (scores === undefined) whole.push({ module, why: NO_BASE_WEIGHT });
      else {
        scored.push({ ...factor, scores, least: isDora ? 1 : 0 });
        originals.push(module);
      }
    }
  }
  const unweighed = whole.filter(({ why }) => why === NO_BASE_WEIGHT);
  if (scored.length === 0 && unweighed.length > 0) throw strangeBase(unweighed.map(({ module }) => module));
  return { scored, originals, empty, whole, strangers: content.strangers };
}

function strangeBase(unweighed: readonly LoraModule[]): StageFailure {
  return new StageFailure({
    kind: 'bad-input',
    message: `The base has no weight for any module of the LoRA: ${listedModules(unweighed)}.`,
    hint: 'Name the checkpoint that the LoRA was trained on, or write a recipe that needs none, such as spn_lora = 1.',
  });
}

/** Names that say a module's scale outside of it, and ranks that readers cut, are not what the decomposition took. */
function isReplaceable(module: LoraModule): boolean {
  return REPLACED[module.family] !== undefined && !module.isPeft && !module.tensors.has('dyn_dim');
}

function isExtractable({ family, tensors }: LoraModule): boolean {
  if (tensors.has('dora_scale')) return false;
  return family === 'LoHa' || family === 'LoKr' || family === 'GLoRA' || tensors.has('diff');
}

function hasMagnitude(module: LoraModule): boolean {
  return module.tensors.has('dora_scale');
}

/**
 * All that is written beside directions: modules that are kept whole, what else resized modules have, and strangers.
 * Rescaling is for the whole LoRA, so it reaches these too; throws a `StageFailure` where it cannot.
 */
export function keptBeside(file: SafetensorsFile, sorted: Sorted, { rescale }: Recipe): readonly TensorToWrite[] {
  const whole = sorted.whole.map(({ module }) => module);
  if (rescale !== 1) refuseRigid([...whole, ...sorted.originals].filter((module) => !isLinear(module)));
  return [
    ...whole.flatMap((module) => weighted(file, module, rescale)),
    ...[...sorted.originals, ...sorted.empty].flatMap((module) => beside(file, module, rescale)),
    ...copied(file, sorted.strangers),
  ];
}

function beside(file: SafetensorsFile, { family, tensors }: LoraModule, rescale: number): readonly TensorToWrite[] {
  return [...tensors].flatMap(([role, name]) => {
    if (REPLACED[family]?.test(role)) return [];
    return role === 'diff_b' && rescale !== 1 ? [multiplied(file, name, rescale)] : copied(file, [name]);
  });
}

function refuseRigid(rigid: readonly LoraModule[]): void {
  const [first] = rigid;
  if (first === undefined) return;
  const kind = hasMagnitude(first) ? 'DoRA' : first.family;
  throw new StageFailure({
    kind: 'bad-input',
    message: `"rescale" cannot be given to ${listed(rigid.map(({ name }) => name))}: modules of kind ${kind} cannot be multiplied.`,
    hint: 'Write rescale = 1.',
  });
}

export interface Remark {
  readonly level: 'info' | 'warning';
  readonly message: string;
}

/** What a user should know about modules that are not simply resized. */
export function remarksOn({ originals, whole, empty, strangers }: Sorted): readonly Remark[] {
  const remarks: Remark[] = [];
  const warn = (message: string): void => void remarks.push({ level: 'warning', message });
  const dora = originals.filter(hasMagnitude);
  if (dora.length > 0) {
    warn(
      `${modules(dora)} of DoRA: the LoRA part is resized and the magnitude stays as it was trained, so the result is approximate: ${listedModules(dora)}.`,
    );
  }
  for (const [why, some] of Map.groupBy(whole, (each) => each.why)) {
    const kept = some.map(({ module }) => module);
    const end = why === undefined ? '' : `; ${why}`;
    warn(`${modules(kept)} of ${familiesOf(kept)} ${are(kept)} kept whole: ${listedModules(kept)}${end}.`);
  }
  if (strangers.length > 0) warn(`Tensors that belong to no module are kept as they are: ${listed(strangers)}.`);
  if (empty.length > 0) {
    const hold = empty.length === 1 ? 'holds' : 'hold';
    const message = `${modules(empty)} ${hold} nothing and ${are(empty)} left out: ${listedModules(empty)}.`;
    remarks.push({ level: 'info', message });
  }
  return remarks;
}

function modules({ length }: readonly unknown[]): string {
  return length === 1 ? '1 module' : `${length} modules`;
}

function are({ length }: readonly unknown[]): string {
  return length === 1 ? 'is' : 'are';
}

function familiesOf(some: readonly LoraModule[]): string {
  return [...new Set(some.map(({ family }) => (family === 'unknown' ? 'unknown families' : family)))].sort().join(', ');
}

function listedModules(some: readonly LoraModule[]): string {
  return listed(some.map(({ name }) => name));
}
