// `exclude = [{ thr = -3  dim = 8 }]`: combinations of swept values that are not made. Every block may have it.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { Attribute, Expression } from '../reading/ast.ts';
import { snippet } from '../reading/literals.ts';
import type { Span } from '../source.ts';
import { keyOfLabel, labelOf, type Point, type Sweep } from './sweeps.ts';

/** A value of a sweep, as a program names the two: in `exclude`, and in `small[thr=-3]`. */
export interface Picked {
  readonly name: Attribute['name'];
  readonly label: string;
  readonly span: Span;
}

/** All of it has to hold. */
export interface Exclusion {
  readonly picks: readonly Picked[];
  readonly span: Span;
}

/** A block's attributes without `exclude`, and what that says. */
export function splitExclude(
  entries: readonly Attribute[],
  kind: string,
  report: (diagnostic: Diagnostic) => void,
): { readonly entries: readonly Attribute[]; readonly exclusions: readonly Exclusion[] } {
  const [written, again] = entries.filter(({ name }) => name.text === 'exclude');
  if (written === undefined) return { entries, exclusions: [] };
  if (again !== undefined) report(problem.duplicateAttribute(again.name, written.name.span));
  const { value } = written;
  const items = value.kind === 'list' && value.tag === undefined ? value.items : undefined;
  const odd = items === undefined ? value : items.find((item) => !isCombination(item));
  if (odd !== undefined && odd.kind !== 'broken') report(problem.oddExclude(odd.span, kind));
  const exclusions = (items ?? []).flatMap((item): Exclusion[] => {
    if (item.kind !== 'record' || item.entries.length === 0) return [];
    return [{ picks: readPicks(item.entries), span: item.span }];
  });
  return { entries: entries.filter(({ name }) => name.text !== 'exclude'), exclusions };
}

const isCombination = (item: Expression) =>
  item.kind === 'broken' || (item.kind === 'record' && item.tag === undefined && item.entries.length > 0);

export function readPicks(entries: readonly Attribute[]): readonly Picked[] {
  return entries.flatMap(({ name, value }) =>
    value.kind === 'broken' ? [] : [{ name, label: labelOf(value) ?? snippet(value.span), span: value.span }],
  );
}

/** Whether a point has all these values. Where it has nothing of a sweep, it has not. */
export function holds(picks: readonly Picked[], point: Point): boolean {
  return picks.every(({ name, label }) =>
    [...point].some(([sweep, value]) => isCalled(sweep, name.text) && keyOfLabel(value.label) === keyOfLabel(label)),
  );
}

/** A sweep has a short name, and a long one for where two have the same. */
export function isCalled(sweep: Sweep, name: string): boolean {
  return sweep.name === name || sweep.path === name;
}

/** Complains about names of sweeps that are not among these, and about values that they do not have. */
export function checkPicks(
  picks: readonly Picked[],
  about: { readonly block: string; readonly sweeps: readonly Sweep[]; report(diagnostic: Diagnostic): void },
): boolean {
  const { block, sweeps, report } = about;
  const isGood = picks.map(({ name, label, span }) => {
    const called = sweeps.filter((sweep) => isCalled(sweep, name.text));
    if (called.length !== 1) {
      const names = [...writtenNames(sweeps).values()];
      report(
        problem.unknownSweep(name, {
          block,
          sweeps: names,
          meant: nearest(name.text, names),
          isOne: called.length === 0,
        }),
      );
      return false;
    }
    const labels = called.flatMap((sweep) => sweep.values.map((value) => value.label));
    if (labels.some((one) => keyOfLabel(one) === keyOfLabel(label))) return true;
    const meant = nearest(label, labels);
    report(problem.unknownSweptValue(span, { sweep: name.text, written: label, labels, meant }));
    return false;
  });
  return !isGood.includes(false);
}

/** What each of some sweeps is called among them: the short name, unless two have the same. */
export function writtenNames(sweeps: readonly Sweep[]): ReadonlyMap<Sweep, string> {
  return new Map(
    sweeps.map((sweep) => {
      const isAlone = sweeps.every((other) => other === sweep || other.name !== sweep.name);
      return [sweep, isAlone ? sweep.name : sweep.path];
    }),
  );
}
