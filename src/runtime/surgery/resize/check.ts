// What is written is what was meant, and how far that is from the original.
//
// A module's directions are orthogonal, so its error is the energy of those that were left out, and rounding:
//
//   ‖ΔW·rescale − ΔW'‖² = Σ (σ·rescale)² of what is left out + Σ σ·rescale·s·(‖u' − u‖² + ‖v' − v‖²) of what stays
//
// where u' and v' are a column of up and a row of down as they lie in the file, u and v the same before rounding, and
// s = alpha / rank. Each written direction must have its strength, s·‖u'‖·‖v'‖ = σ·rescale, as exactly as the
// numbers of the file allow. One that has not is a mistake of ours, and nothing is published.

import { StageFailure } from '../../events.ts';
import type { FactorModule } from './factors.ts';
import type { Precision } from './recipe.ts';

/** Of one factor, by direction: the sum of squares as written, and of the squares of what rounding changed. */
export interface Rounded {
  readonly squares: Float64Array;
  readonly changes: Float64Array;
}

/** All are parts of ‖ΔW‖, of the modules that were resized: 0 is none, 1 is all. */
export interface Difference {
  readonly all: number;
  readonly rounding: number;
  /** How far the decomposition is from the LoRA that it was made of. */
  readonly residual: number;
  readonly modules: number;
  readonly leftOut: number;
  /** Of the modules that stay, the one that lost the most; `undefined` where none lost anything but digits. */
  readonly worst: { readonly module: string; readonly part: number } | undefined;
}

/** The directions of a module that stay, and what each of its factors' rows is multiplied by. */
export interface Kept {
  readonly module: FactorModule;
  readonly kept: readonly number[];
  readonly strengths: Float64Array;
  readonly scale: number;
}

/** Half a unit in the last place, and half the smallest number that is not zero. */
const ROUNDING: { readonly [precision in Precision]: { readonly relative: number; readonly absolute: number } } = {
  fp16: { relative: 2 ** -11, absolute: 2 ** -25 },
  bf16: { relative: 2 ** -8, absolute: 2 ** -134 },
  fp32: { relative: 2 ** -24, absolute: 2 ** -150 },
};

/** How well single precision knows a singular value: as a part of itself, and of the strongest of its module. */
const SINGLES = { ofItself: 1e-4, ofStrongest: 1e-6 };

/** Follows the writing of one file, module by module, in any order. */
export class Verification {
  readonly #rescale: number;
  readonly #precision: Precision;
  /** By module: what rounding did, squared, once both factors are there. */
  readonly #rounding = new Map<string, number>();

  constructor({ rescale, precision }: { readonly rescale: number; readonly precision: Precision }) {
    this.#rescale = rescale;
    this.#precision = precision;
  }

  /** Gives what has to be told of the sums of both factors. Throws at the second where a direction is not what it should be. */
  of(kept: Kept): (factor: 'u' | 'vt', rounded: Rounded) => void {
    const known: { u?: Rounded; vt?: Rounded } = {};
    return (factor, rounded) => {
      known[factor] = rounded;
      const { u, vt } = known;
      if (u !== undefined && vt !== undefined) this.#rounding.set(kept.module.name, this.#check(kept, u, vt));
    };
  }

  #check({ module, kept, strengths, scale }: Kept, u: Rounded, vt: Rounded): number {
    const { relative, absolute } = ROUNDING[this.#precision];
    const strongest = (module.sigma[0] ?? 0) * this.#rescale;
    let rounding = 0;
    for (const [at, direction] of kept.entries()) {
      const strength = strengths[at] ?? 0;
      const wanted = (module.sigma[direction] ?? 0) * this.#rescale;
      const written = scale * Math.sqrt((u.squares[at] ?? 0) * (vt.squares[at] ?? 0));
      const longer = (width: number): number => 1 + relative + (Math.sqrt(width) * absolute) / strength;
      const tolerance = wanted * (longer(module.out) * longer(module.width) - 1 + SINGLES.ofItself);
      if (!(Math.abs(written - wanted) <= tolerance + strongest * SINGLES.ofStrongest)) {
        throw mismatch(module.name, direction, written, wanted);
      }
      rounding += wanted * scale * ((u.changes[at] ?? 0) + (vt.changes[at] ?? 0));
    }
    return rounding;
  }

  /** `kept` goes with `modules`: the directions that stay. To be called when all is written. */
  difference(modules: readonly FactorModule[], kept: readonly (readonly number[])[]): Difference {
    const sums = { all: 0, lost: 0, rounding: 0, residual: 0 };
    let leftOut = 0;
    let worst: Difference['worst'];
    for (const [index, module] of modules.entries()) {
      const indices = kept[index] ?? [];
      const found = energies(module, indices);
      const rounding = indices.length === 0 ? 0 : this.#rounding.get(module.name);
      if (rounding === undefined) throw new Error(`Internal error: "${module.name}" was not verified.`);
      sums.all += found.all;
      sums.lost += found.lost;
      sums.rounding += rounding / this.#rescale ** 2;
      sums.residual += module.residual ** 2 * found.all;
      const part = Math.sqrt(found.lost / found.all);
      if (indices.length === 0) leftOut += 1;
      else if (part > (worst?.part ?? 0)) worst = { module: module.name, part };
    }
    const part = (energy: number): number => (sums.all === 0 ? 0 : Math.sqrt(energy / sums.all));
    return {
      all: part(sums.lost + sums.rounding + sums.residual),
      rounding: part(sums.rounding),
      residual: part(sums.residual),
      modules: modules.length,
      leftOut,
      worst,
    };
  }
}

/** Σσ² of a module, and of what is not kept of it. */
function energies({ sigma, discarded }: FactorModule, kept: readonly number[]): { all: number; lost: number } {
  const stays = new Set(kept);
  let all = discarded;
  let lost = discarded;
  for (const [index, value] of sigma.entries()) {
    all += value * value;
    if (!stays.has(index)) lost += value * value;
  }
  return { all, lost };
}

function mismatch(module: string, direction: number, written: number, wanted: number): StageFailure {
  return new StageFailure({
    kind: 'internal',
    message: `Internal error: direction ${direction + 1} of "${module}" would be written with the strength ${written}, and ${wanted} is right.`,
    hint: 'Nothing was written. This is a mistake of lorac, or its store is damaged: build the decomposition again with --rerun, and report it if that does not help.',
  });
}

/** One sentence for the user. */
export function describeDifference(
  { all, rounding, modules, leftOut, worst }: Difference,
  precision: Precision,
): string {
  const start = `The result differs from the original by ${percent(all)} of ‖ΔW‖`;
  if (leftOut === 0 && worst === undefined) return `${start}, which is rounding to ${precision}.`;
  const gone = leftOut === 0 ? [] : [`${leftOut} of ${modules} modules are left out`];
  const most = worst === undefined ? [] : [`"${worst.module}" loses most of those that stay, ${percent(worst.part)}`];
  return `${start}: ${[...gone, ...most].join(', ')}; rounding to ${precision} makes ${percent(rounding)}.`;
}

/** What is beyond the digits of singles is worth a word. */
const INEXACT = 1e-3;

/** Of the modules whose decomposition is not what they were, the farthest. */
export function inexact(modules: readonly FactorModule[]): readonly string[] {
  const found = modules.filter(({ residual }) => residual > INEXACT).sort((a, b) => b.residual - a.residual);
  const [worst] = found;
  if (worst === undefined) return [];
  const others =
    found.length === 1 ? '' : ` The next of ${found.length - 1} more: ${percent(found[1]?.residual ?? 0)}.`;
  return [`The decomposition of "${worst.name}" is off by ${percent(worst.residual)} of its ΔW.${others}`];
}

function percent(part: number): string {
  return `${Number((part * 100).toPrecision(2))} %`;
}
