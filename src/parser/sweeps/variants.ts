// The variants of one block: it is checked once for each combination of the values of the sweeps that it meets.
// Which sweeps these are shows while it is checked, since one value may lead to a sweep that another does not.

import { mistakeOf, type Scope } from '../checking/scope.ts';
import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import { type Exclusion, holds, writtenNames } from './exclude.ts';
import type { Point, Sweep, Sweeps, SweptValue } from './sweeps.ts';

/** More variants of one block than anyone looks at, before those that are excluded are left out. */
export const mostVariants = 1000;

interface Trial<T> {
  readonly point: Point;
  readonly result: T;
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * What `check` gives in every variant, in the order in which the values are written, up to the most that there can be.
 * What it complains about in a variant that is excluded is not said.
 */
export function inEveryVariant<T>(
  scope: Scope,
  {
    sweeps,
    exclusions,
    check,
  }: {
    readonly sweeps: Sweeps;
    readonly exclusions: readonly Exclusion[];
    check(scope: Scope): T;
  },
): { readonly found: readonly Trial<T>[]; readonly areTooMany: boolean } {
  const found: Trial<T>[] = [];
  const ahead: Point[] = [new Map()];
  for (let start = ahead.pop(); start !== undefined; start = ahead.pop()) {
    if (found.length >= mostVariants) {
      found[0]?.diagnostics.forEach(scope.report);
      return { found, areTooMany: true };
    }
    const point = new Map(start);
    const diagnostics: Diagnostic[] = [];
    const sweptValue: Scope['sweptValue'] = (expression) => {
      const sweep = sweeps.get(expression);
      return sweep && (point.get(sweep) ?? takeFirst(sweep, point, ahead));
    };
    const result = check({ ...scope, sweptValue, report: (diagnostic) => diagnostics.push(diagnostic) });
    found.push({ point, result, diagnostics });
  }
  reportAll(
    scope,
    found.filter(({ point }) => !exclusions.some(({ picks }) => holds(picks, point))),
  );
  return { found, areTooMany: false };
}

/** The first value of a sweep that is met for the first time. The others are tried later, the next one next. */
function takeFirst(sweep: Sweep, point: Map<Sweep, SweptValue>, ahead: Point[]): SweptValue | undefined {
  const [first, ...others] = sweep.values;
  for (const other of others.reverse()) ahead.push(new Map([...point, [sweep, other]]));
  if (first !== undefined) point.set(sweep, first);
  return first;
}

/** Each complaint once. Where two values do not go together, leaving out the combination helps as well. */
function reportAll(scope: Scope, trials: readonly Trial<unknown>[]): void {
  const places = new Map<string, { diagnostic: Diagnostic; points: Point[] }>();
  for (const { point, diagnostics } of trials) {
    for (const diagnostic of diagnostics) {
      const key = mistakeOf(diagnostic);
      const known = places.get(key);
      if (known === undefined) places.set(key, { diagnostic, points: [point] });
      else if (known.points.at(-1) !== point) known.points.push(point);
    }
  }
  const all = trials.map(({ point }) => point);
  for (const { diagnostic, points } of places.values()) {
    const together = points.length === all.length ? [] : sweepsThatMatter(points, all);
    scope.report(together.length < 2 ? diagnostic : withExclude(diagnostic, points[0] as Point, together));
  }
}

/** The sweeps of which another value, with all else as in the first of the points, would be no problem. */
function sweepsThatMatter(points: readonly Point[], all: readonly Point[]): readonly Sweep[] {
  const [first] = points as readonly [Point];
  const odd = new Set(points);
  return [...first.keys()].filter((sweep) =>
    all.some(
      (point) => !odd.has(point) && [...first].every(([one, value]) => one === sweep || point.get(one) === value),
    ),
  );
}

function withExclude(diagnostic: Diagnostic, point: Point, sweeps: readonly Sweep[]): Diagnostic {
  const names = writtenNames([...point.keys()]);
  const values = sweeps.map((sweep) => `${names.get(sweep)} = ${point.get(sweep)?.label}`).join('  ');
  const way = `Or leave out what does not go together: exclude = [{ ${values} }]`;
  return { ...diagnostic, hint: diagnostic.hint === undefined ? way : `${diagnostic.hint} ${way}` };
}
