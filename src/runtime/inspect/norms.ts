// ‖ΔW‖ of every module and every block, and of the difference of two files. From the singular values of a decomposition
// where one is there; else natively, one module at a time.

import type { SafetensorsFile } from '../safetensors/file.ts';
import type { BaseWeights } from './base-weights.ts';
import { type Delta, inner, isEqual, sameShape } from './delta.ts';
import type { ModuleFacts } from './module-facts.ts';
import { NoDelta } from './read-delta.ts';
import { readEffect } from './read-effect.ts';
import { orderOf } from './report.ts';
import { addEnergy, type Energy, energyOf, type Spectrum, sharesOf } from './spectra.ts';

export interface Norms {
  /** By module name. Modules whose effect cannot be measured are missing. */
  readonly modules: ReadonlyMap<string, number>;
  readonly blocks: ReadonlyMap<string, number>;
  /** Why modules are missing: how many, and one of them. */
  readonly unmeasured: ReadonlyMap<string, { readonly count: number; readonly example: string }>;
  /** Modules with NaN or infinity in a factor. */
  readonly broken: readonly string[];
  /** How many norms came from a decomposition. */
  readonly decomposed: number;
  /** What share of ΔW² the strongest directions of each module have, by block, as `SHARES` counts them; of decomposed modules. */
  readonly shares: ReadonlyMap<string, readonly number[]>;
}

export interface NormOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** Without it, modules whose effect depends on the base weight are not measured. */
  readonly base?: BaseWeights | undefined;
  /** By kohya's names; what is not there is measured. */
  readonly spectra?: ReadonlyMap<string, Spectrum> | undefined;
}

export async function measureNorms(
  file: SafetensorsFile,
  modules: readonly ModuleFacts[],
  { signal, onProgress, base, spectra }: NormOptions,
): Promise<Norms> {
  const tally = new Tally(base);
  const measured = modules.filter((facts) => {
    const spectrum = spectra?.get(facts.key);
    if (spectrum !== undefined) tally.addSpectrum(facts, spectrum);
    return spectrum === undefined;
  });
  for (const [done, facts] of measured.entries()) {
    signal.throwIfAborted();
    onProgress?.(done, measured.length);
    const delta = await tally.read(file, facts);
    if (delta !== undefined) tally.add(facts, inner(delta, delta));
  }
  return tally.norms();
}

export interface Side {
  readonly file: SafetensorsFile;
  readonly modules: readonly ModuleFacts[];
}

export interface Difference {
  /** ‖ΔW₁ − ΔW₂‖ relative to ‖ΔW₁‖, by block. */
  readonly blocks: ReadonlyMap<string, number>;
  readonly whole: number;
  /** Of both files by themselves: they are needed on the way. */
  readonly first: Norms;
  readonly second: Norms;
}

/** A module that only one file has, or that has another shape in the other, counts with all its norm. */
export async function measureDifference(
  first: Side,
  second: Side,
  { signal, onProgress, base }: NormOptions,
): Promise<Difference> {
  const [one, two] = [new Tally(base), new Tally(base)];
  const [ones, others] = [first, second].map(({ modules }) => new Map(modules.map((facts) => [facts.key, facts])));
  const all = [...first.modules, ...second.modules].sort((a, b) => orderOf(a.place) - orderOf(b.place));
  const places = new Map(all.map((facts) => [facts.key, facts.place]));
  const sums = new Map<string, Squares>();
  let done = 0;
  for (const [key, place] of places) {
    signal.throwIfAborted();
    onProgress?.(done, places.size);
    done += 1;
    const [a, b] = [ones?.get(key), others?.get(key)];
    const x = a && (await one.read(first.file, a));
    const y = b && (await two.read(second.file, b));
    const squares = squaresOf(x, y);
    if (a !== undefined && x !== undefined) one.add(a, squares.first);
    if (b !== undefined && y !== undefined) two.add(b, squares.second);
    if (Number.isFinite(squares.apart)) sums.set(place, sumOf(sums.get(place) ?? NOTHING, squares));
  }
  const total = [...sums.values()].reduce(sumOf, NOTHING);
  return {
    blocks: new Map([...sums].map(([place, squares]) => [place, relative(squares)])),
    whole: relative(total),
    first: one.norms(),
    second: two.norms(),
  };
}

/** ‖ΔW₁‖², ‖ΔW₂‖², and the square of what is between them. */
interface Squares {
  readonly first: number;
  readonly second: number;
  readonly apart: number;
}

const NOTHING: Squares = { first: 0, second: 0, apart: 0 };

function squaresOf(a: Delta | undefined, b: Delta | undefined): Squares {
  const first = a === undefined ? 0 : inner(a, a);
  // Chopped and merged files share most modules to the bit, and an inner product of two takes twice as long as a norm.
  if (a !== undefined && b !== undefined && isEqual(a, b)) return { first, second: first, apart: 0 };
  const second = b === undefined ? 0 : inner(b, b);
  if (a === undefined || b === undefined || !sameShape(a, b)) return { first, second, apart: first + second };
  // Where both are equal but for rounding, the three terms cancel; what is left of them means nothing below this.
  const apart = first + second - 2 * inner(a, b);
  return { first, second, apart: apart < 1e-14 * (first + second) ? 0 : apart };
}

function sumOf(a: Squares, b: Squares): Squares {
  return { first: a.first + b.first, second: a.second + b.second, apart: a.apart + b.apart };
}

function relative({ first, apart }: Squares): number {
  return apart === 0 ? 0 : Math.sqrt(apart / first);
}

/** What is known of one file so far. */
class Tally {
  private readonly modules = new Map<string, number>();
  private readonly squares = new Map<string, number>();
  private readonly unmeasured = new Map<string, { count: number; example: string }>();
  private readonly broken: string[] = [];
  private readonly energies = new Map<string, Energy>();
  private decomposed = 0;
  private readonly base: BaseWeights | undefined;

  constructor(base: BaseWeights | undefined) {
    this.base = base;
  }

  /** `undefined`, with the reason noted, for a module without a ΔW of its own. */
  async read(file: SafetensorsFile, facts: ModuleFacts): Promise<Delta | undefined> {
    try {
      return await readEffect(file, facts, this.base);
    } catch (error) {
      if (!(error instanceof NoDelta)) throw error;
      const { count, example } = this.unmeasured.get(error.message) ?? { count: 0, example: facts.module.name };
      this.unmeasured.set(error.message, { count: count + 1, example });
      return undefined;
    }
  }

  add({ module, place }: ModuleFacts, square: number): void {
    if (!Number.isFinite(square)) {
      this.broken.push(module.name);
      return;
    }
    const positive = Math.max(0, square);
    this.modules.set(module.name, Math.sqrt(positive));
    this.squares.set(place, (this.squares.get(place) ?? 0) + positive);
  }

  addSpectrum(facts: ModuleFacts, spectrum: Spectrum): void {
    const energy = energyOf(spectrum);
    const before = this.energies.get(facts.place);
    this.energies.set(facts.place, before === undefined ? energy : addEnergy(before, energy));
    this.decomposed += 1;
    this.add(facts, energy.all);
  }

  norms(): Norms {
    const { modules, unmeasured, broken, decomposed } = this;
    const blocks = new Map([...this.squares].map(([place, square]) => [place, Math.sqrt(square)]));
    const shares = new Map([...this.energies].map(([place, energy]) => [place, sharesOf(energy)]));
    return { modules, blocks, unmeasured, broken, decomposed, shares };
  }
}
