// The variants of all blocks: each has its own, times those of what it is made from. Where two of these were made by one
// sweep, they vary together.
//
//   train raw { network = locon { dim = sweep [4, 8] } … }     raw[dim=4]  raw[dim=8]
//   resize small { from = raw  thr = sweep [-3, -4] }          small[dim=4,thr=-3]  small[dim=4,thr=-4]  small[dim=8,thr=-3] …
//   chop tiny { from = small[thr=-3]  keep = [OUT01] }         tiny[dim=4]  tiny[dim=8]
//   preview grid { loras = [raw, tiny] … }                     grid: a list of LoRAs takes all variants

import { reportTwice } from '../checking/check-references.ts';
import { gatheredOf, isReference, orderBlocks, referencesOf, replaceReferences } from '../checking/order.ts';
import type { Scope } from '../checking/scope.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import type { CheckedBlock } from '../model.ts';
import { writeNodeName } from '../node-name.ts';
import type { Span } from '../source.ts';
import { nameOfReference, type Reference } from '../values.ts';
import { checkPicks, type Exclusion, holds, isCalled, type Picked, writtenNames } from './exclude.ts';
import type { Point, Sweep } from './sweeps.ts';
import { mostVariants } from './variants.ts';

/** A block as it is written, checked in each of the variants that it makes by itself. */
export interface VariedBlock {
  /** In messages: `"small"`, `this save block`. */
  readonly called: string;
  readonly span: Span;
  /** At least one. */
  readonly variants: readonly Varied[];
  readonly exclusions: readonly Exclusion[];
}

interface Varied {
  readonly block: CheckedBlock;
  readonly point: Point;
}

/** One variant of a block that other blocks may be made from. */
interface Made {
  readonly name: string;
  readonly point: Point;
}

/** Of all blocks together, each one's first aside: more than anyone waits for. */
const mostOfAll = 10_000;

type MadeByName = ReadonlyMap<string, readonly Made[]>;

/** Every variant of every block under a name of its own, in the order in which the blocks are written. */
export function joinVariants(scope: Scope, written: readonly VariedBlock[]): readonly CheckedBlock[] {
  const joined = new Map<VariedBlock, readonly CheckedBlock[]>();
  const made = new Map<string, readonly Made[]>();
  let total = 0;
  for (const varied of inOrder(scope, written)) {
    const found = isUnvaried(varied, made) ? varied.variants : new Joining(scope, varied, made).variants();
    total += Math.max(0, found.length - 1);
    if (total > mostOfAll) {
      const shown = inWords(sweepsOf(found));
      scope.report(problem.tooManyVariants(varied.span, { name: 'all blocks', most: mostOfAll, sweeps: shown }));
      break;
    }
    const blocks = found.map(({ block }) => block);
    joined.set(varied, blocks);
    const [{ block: first } = {}] = varied.variants;
    // Nothing refers to a block that saves.
    if (first === undefined || first.kind === 'save') continue;
    const options = found.map(({ block, point }) => ({ name: block.name, point }));
    made.set(first.name, options);
  }
  return written.flatMap((varied) => joined.get(varied) ?? []);
}

/** Most blocks: without variants, and made from none. */
function isUnvaried({ variants, exclusions }: VariedBlock, made: MadeByName): boolean {
  const [first, ...others] = variants;
  if (first === undefined || others.length > 0 || first.point.size > 0 || exclusions.length > 0) return false;
  return referencesOf(first.block).every(({ block, picks }) => {
    const [one, ...more] = made.get(block) ?? [];
    return picks === undefined && one?.name === block && more.length === 0;
  });
}

/** Every block after those that it is made from in any of its variants. Circles are complained about. */
function inOrder(scope: Scope, written: readonly VariedBlock[]): readonly VariedBlock[] {
  const byFirst = new Map(
    written.flatMap((varied) => (varied.variants[0] ? [[varied.variants[0].block, varied]] : [])),
  );
  const { ordered, circles } = orderBlocks([...byFirst.keys()], (first) =>
    (byFirst.get(first)?.variants ?? []).flatMap(({ block }) => referencesOf(block)),
  );
  for (const circle of circles) scope.report(problem.cycle(circle));
  return ordered.flatMap((first) => byFirst.get(first) ?? []);
}

/** One block: its own variants times those of what it is made from, which are there already. */
class Joining {
  readonly #scope: Scope;
  readonly #varied: VariedBlock;
  readonly #made: MadeByName;
  readonly #options = new Map<string, readonly Made[]>();

  constructor(scope: Scope, varied: VariedBlock, made: MadeByName) {
    this.#scope = scope;
    this.#varied = varied;
    this.#made = made;
  }

  /** None when there are too many, after complaining. */
  variants(): readonly Varied[] {
    const { span, called, exclusions } = this.#varied;
    const joined = this.#varied.variants.flatMap((varied) => this.#joinOne(varied));
    const sweeps = sweepsOf(joined);
    const report = this.#scope.report;
    const isGood = this.#isMadeOfWholes()
      ? exclusions.map(({ picks }) => checkPicks(picks, { block: called, sweeps, report }))
      : [false];
    if (joined.length > mostVariants) {
      report(problem.tooManyVariants(span, { name: called, most: mostVariants, sweeps: inWords(sweeps) }));
      return [];
    }
    const kept = joined.filter(({ point }) => !exclusions.some(({ picks }) => holds(picks, point)));
    const isEmptied = joined.length > 0 && kept.length === 0 && !isGood.includes(false);
    if (isEmptied) report(problem.nothingLeft(exclusions[0]?.span ?? span, called));
    return inOrderOfValues(kept, sweeps).map((varied) => this.#finish(varied, sweeps));
  }

  /** A variant of the block itself, with every combination of what it can be made from that agrees with it. */
  #joinOne({ block, point: own }: Varied): readonly Varied[] {
    const gathered = new Set(gatheredOf(block));
    let points: readonly Point[] = [new Map()];
    for (const reference of referencesOf(block)) {
      if (gathered.has(reference)) continue;
      const options = this.#optionsOf(reference).filter(({ point }) => agree(point, own));
      points = points
        .flatMap((point) => options.flatMap((option) => together(point, option.point)))
        .slice(0, mostVariants + 1);
    }
    const whole = points.flatMap((point) => together(point, own));
    const fits = (point: Point) => (reference: Reference) =>
      this.#optionsOf(reference).some((option) => agree(option.point, point));
    // A picture needs a column.
    const shown = gathered.size === 0 ? whole : whole.filter((point) => [...gathered].some(fits(point)));
    return shown.map((point) => ({ block, point }));
  }

  /** What it is made from may be wrong, which has been complained about: then nobody knows by what it varies. */
  #isMadeOfWholes(): boolean {
    const references = this.#varied.variants.flatMap(({ block }) => referencesOf(block));
    return references.every(({ block }) => this.#made.has(block));
  }

  /** The variants that a reference can mean. A sweep whose value it names is settled, and varies nothing further. */
  #optionsOf(reference: Reference): readonly Made[] {
    const { block, picks = [], span } = reference;
    const name = nameOfReference({ block, picks });
    const known = this.#options.get(name);
    if (known !== undefined) return known;
    const all = this.#made.get(block);
    // Something is wrong with it, which has been complained about.
    if (all === undefined) return [{ name: block, point: new Map() }];
    const isGood = checkPicks(picks, { block: `"${block}"`, sweeps: sweepsOf(all), report: this.#scope.report });
    const fitting = all.filter(({ point }) => holds(picks, point));
    if (isGood && all.length > 0 && fitting.length === 0) this.#scope.report(problem.excludedVariant(span, name));
    const options = fitting.map((one) => ({ ...one, point: without(one.point, picks) }));
    this.#options.set(name, options);
    return options;
  }

  /** The variant under its own name, made from variants. */
  #finish({ block, point }: Varied, sweeps: readonly Sweep[]): Varied {
    const made = replaceReferences(block, ({ picks, ...reference }) =>
      this.#optionsOf({ ...reference, ...(picks && { picks }) })
        .filter((option) => agree(option.point, point))
        .map(({ name }) => ({ ...reference, block: name })),
    );
    this.#checkDifferent(made);
    if (sweeps.length === 0) return { block: made, point };
    const names = writtenNames(sweeps);
    const values = sweeps.flatMap((sweep) => {
      const label = point.get(sweep)?.label;
      return label === undefined ? [] : [{ sweep: names.get(sweep) ?? sweep.path, label, inText: inText(sweep) }];
    });
    const parts = {
      block: block.name,
      values: values.map(({ sweep, label }) => `${sweep}=${label}`),
      helper: undefined,
    };
    const name = block.kind === 'save' ? block.name : writeNodeName(parts);
    // A place of its own, so that the variants of one block can be told apart by it.
    return { block: { ...made, name, span: { ...block.span }, variant: { of: block.name, values } }, point };
  }

  /** `[small, small[thr=-3]]` has one of them twice. */
  #checkDifferent(block: CheckedBlock): void {
    for (const [attribute, value] of Object.entries<unknown>(block.attributes)) {
      if (!Array.isArray(value)) continue;
      const items = value.filter(isReference).map((one) => ({ what: `"${nameOfReference(one)}"`, span: one.span }));
      reportTwice(this.#scope, attribute, items);
    }
  }
}

/** `3 of small.thr`. */
export function inWords(sweeps: readonly Sweep[]): readonly string[] {
  return sweeps.map(({ path, values }) => `${values.length} of ${path}`);
}

/** In the order in which they are met: what is inherited comes first. */
export function sweepsOf(variants: readonly { readonly point: Point }[]): readonly Sweep[] {
  return [...new Set(variants.flatMap(({ point }) => [...point.keys()]))];
}

function inOrderOfValues(variants: readonly Varied[], sweeps: readonly Sweep[]): readonly Varied[] {
  const places = new Map(sweeps.map((sweep) => [sweep, new Map(sweep.values.map((value, index) => [value, index]))]));
  const placeOf = (point: Point, sweep: Sweep) => {
    const value = point.get(sweep);
    return (value && places.get(sweep)?.get(value)) ?? -1;
  };
  return variants.toSorted((a, b) => {
    const differing = sweeps.find((sweep) => placeOf(a.point, sweep) !== placeOf(b.point, sweep));
    return differing === undefined ? 0 : placeOf(a.point, differing) - placeOf(b.point, differing);
  });
}

function agree(one: Point, other: Point): boolean {
  // Asked a million times where there are many variants.
  for (const [sweep, value] of one) if ((other.get(sweep) ?? value) !== value) return false;
  return true;
}

/** Both points in one, or nothing where they do not agree. */
function together(one: Point, other: Point): readonly Point[] {
  return agree(one, other) ? [new Map([...one, ...other])] : [];
}

function without(point: Point, picks: readonly Picked[]): Point {
  return new Map([...point].filter(([sweep]) => !picks.some(({ name }) => isCalled(sweep, name.text))));
}

/** How a path can name the value that a variant has. */
function inText({ path, canBeNamed }: Sweep): string | undefined {
  return canBeNamed ? `\${${path}}` : undefined;
}
