// ‖ΔW‖ of every module and every block, and of the difference of two files; natively, one module at a time.

import type { SafetensorsFile } from '../safetensors/file.ts';
import { type Delta, inner, sameShape } from './delta.ts';
import type { ModuleFacts } from './module-facts.ts';
import { NoDelta, readDelta } from './read-delta.ts';
import { orderOf } from './report.ts';

export interface Norms {
  /** By module name. Modules whose effect cannot be measured are missing. */
  readonly modules: ReadonlyMap<string, number>;
  readonly blocks: ReadonlyMap<string, number>;
  /** Why modules are missing: how many, and one of them. */
  readonly unmeasured: ReadonlyMap<string, { readonly count: number; readonly example: string }>;
  /** Modules with NaN or infinity in a factor. */
  readonly broken: readonly string[];
}

export interface NormOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export async function measureNorms(
  file: SafetensorsFile,
  modules: readonly ModuleFacts[],
  { signal, onProgress }: NormOptions,
): Promise<Norms> {
  const norms = new Map<string, number>();
  const blocks = new Map<string, number>();
  const unmeasured = new Map<string, { count: number; example: string }>();
  const broken: string[] = [];
  for (const [done, facts] of modules.entries()) {
    signal.throwIfAborted();
    onProgress?.(done, modules.length);
    const delta = await deltaOrReason(file, facts);
    const { name } = facts.module;
    if (typeof delta === 'string') {
      unmeasured.set(delta, {
        count: (unmeasured.get(delta)?.count ?? 0) + 1,
        example: unmeasured.get(delta)?.example ?? name,
      });
      continue;
    }
    const square = inner(delta, delta);
    if (!Number.isFinite(square)) {
      broken.push(name);
      continue;
    }
    norms.set(name, Math.sqrt(Math.max(0, square)));
    blocks.set(facts.place, (blocks.get(facts.place) ?? 0) + Math.max(0, square));
  }
  return { modules: norms, blocks: rootsOf(blocks), unmeasured, broken };
}

export interface Difference {
  /** ‖ΔW₁ − ΔW₂‖ relative to ‖ΔW₁‖, by block. */
  readonly blocks: ReadonlyMap<string, number>;
  readonly whole: number;
}

/** Of the modules that both files have in the same shape; a module that only one has counts with all its norm. */
export async function measureDifference(
  first: { readonly file: SafetensorsFile; readonly modules: readonly ModuleFacts[] },
  second: { readonly file: SafetensorsFile; readonly modules: readonly ModuleFacts[] },
  { signal, onProgress }: NormOptions,
): Promise<Difference> {
  const others = new Map(second.modules.map((facts) => [facts.key, facts]));
  const all = [...first.modules, ...second.modules].sort((a, b) => orderOf(a.place) - orderOf(b.place));
  const keys = new Map(all.map((facts) => [facts.key, facts.place]));
  const ones = new Map(first.modules.map((facts) => [facts.key, facts]));
  const sums = new Map<string, { first: number; apart: number }>();
  let done = 0;
  for (const [key, place] of keys) {
    signal.throwIfAborted();
    onProgress?.(done, keys.size);
    done += 1;
    const squares = await squaresOf(
      await maybeDelta(first.file, ones.get(key)),
      await maybeDelta(second.file, others.get(key)),
    );
    const before = sums.get(place) ?? { first: 0, apart: 0 };
    sums.set(place, { first: before.first + squares.first, apart: before.apart + squares.apart });
  }
  const total = [...sums.values()].reduce((a, b) => ({ first: a.first + b.first, apart: a.apart + b.apart }), {
    first: 0,
    apart: 0,
  });
  return {
    blocks: new Map([...sums].map(([place, { first: square, apart }]) => [place, relative(apart, square)])),
    whole: relative(total.apart, total.first),
  };
}

async function squaresOf(a: Delta | undefined, b: Delta | undefined): Promise<{ first: number; apart: number }> {
  const [x, y] = [a === undefined ? 0 : inner(a, a), b === undefined ? 0 : inner(b, b)];
  if (a === undefined || b === undefined || !sameShape(a, b)) return { first: x, apart: x + y };
  // Where both are equal but for rounding, the three terms cancel; what is left of them means nothing below this.
  const apart = x + y - 2 * inner(a, b);
  return { first: x, apart: apart < 1e-14 * (x + y) ? 0 : apart };
}

function relative(apart: number, first: number): number {
  return apart === 0 ? 0 : Math.sqrt(apart / first);
}

async function maybeDelta(file: SafetensorsFile, facts: ModuleFacts | undefined): Promise<Delta | undefined> {
  if (facts === undefined) return undefined;
  const delta = await deltaOrReason(file, facts);
  return typeof delta === 'string' ? undefined : delta;
}

async function deltaOrReason(file: SafetensorsFile, facts: ModuleFacts): Promise<Delta | string> {
  try {
    return await readDelta(file, facts);
  } catch (error) {
    if (error instanceof NoDelta) return error.message;
    throw error;
  }
}

function rootsOf(squares: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  return new Map([...squares].map(([place, square]) => [place, Math.sqrt(square)]));
}
