// Two LoRA files side by side, whatever each calls its modules.

import type { ModuleFacts } from './module-facts.ts';
import { type LoraReport, orderOf } from './report.ts';

export interface Comparison {
  /** In both, by kohya's names. */
  readonly shared: number;
  /** Names as their own file has them. */
  readonly onlyFirst: readonly string[];
  readonly onlySecond: readonly string[];
  /** What differs, in the order of the blocks. */
  readonly differences: readonly ModuleDifference[];
  /** Metadata keys with other values, or in one file only; hashes aside. */
  readonly metadata: readonly string[];
}

export interface ModuleDifference {
  readonly place: string;
  readonly what: 'family' | 'shape' | 'rank' | 'scale';
  readonly first: string;
  readonly second: string;
  readonly modules: number;
}

export function compareLoras(first: LoraReport, second: LoraReport): Comparison {
  const others = new Map(second.modules.map((facts) => [facts.key, facts]));
  const keys = new Set(first.modules.map(({ key }) => key));
  const pairs = first.modules.flatMap((facts) => {
    const other = others.get(facts.key);
    return other === undefined ? [] : [[facts, other] as const];
  });
  return {
    shared: pairs.length,
    onlyFirst: first.modules.filter(({ key }) => !others.has(key)).map(({ module }) => module.name),
    onlySecond: second.modules.filter(({ key }) => !keys.has(key)).map(({ module }) => module.name),
    differences: grouped(pairs.flatMap(([a, b]) => differencesOf(a, b))),
    metadata: differentKeys(first.metadata ?? new Map(), second.metadata ?? new Map()),
  };
}

type Single = Omit<ModuleDifference, 'modules'>;

function differencesOf(a: ModuleFacts, b: ModuleFacts): readonly Single[] {
  const pair = (what: Single['what'], first: unknown, second: unknown): Single[] =>
    `${first}` === `${second}`
      ? []
      : [{ place: a.place, what, first: `${first ?? 'none'}`, second: `${second ?? 'none'}` }];
  return [
    ...pair('family', a.family, b.family),
    ...pair('shape', shapeText(a), shapeText(b)),
    ...pair('rank', a.rank, b.rank),
    ...pair('scale', a.scale, b.scale),
  ];
}

function shapeText({ out, columns }: ModuleFacts): string {
  return out === undefined ? 'none' : `${out} × ${columns}`;
}

/** Equal differences of a block in one entry. */
function grouped(singles: readonly Single[]): readonly ModuleDifference[] {
  const groups = new Map<string, ModuleDifference>();
  for (const single of singles) {
    const key = JSON.stringify([single.place, single.what, single.first, single.second]);
    groups.set(key, { ...single, modules: (groups.get(key)?.modules ?? 0) + 1 });
  }
  return [...groups.values()].sort((a, b) => orderOf(a.place) - orderOf(b.place));
}

function differentKeys(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): readonly string[] {
  return [...new Set([...a.keys(), ...b.keys()])]
    .filter((key) => a.get(key) !== b.get(key) && !key.startsWith('sshs_') && key !== 'modelspec.hash_sha256')
    .sort();
}
