// Where a program says `sweep`: one place with several values, of which each makes a variant of what depends on it.
// A sweep is known by the place that wrote it, so one that is reached along two ways is still one.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { blocksIn } from '../imports/imports.ts';
import type { Namespace } from '../imports/namespaces.ts';
import { type Attribute, type Expression, partsOf } from '../reading/ast.ts';
import { readNumber } from '../reading/literals.ts';
import { type Span, sourceText } from '../source.ts';

export interface Sweep {
  /** Of the let, or of the attribute: `thr`. */
  readonly name: string;
  /** The same, told apart from all others: `small.thr`, `raw.network.dim`, and for a let its name. */
  readonly path: string;
  /** Whether `${path}` means it: a block that saves has no name to begin a path with. */
  readonly canBeNamed: boolean;
  /** Never none, and none twice. */
  readonly values: readonly SweptValue[];
  readonly span: Span;
}

export interface SweptValue {
  /** What tells the variant apart: the value as it is written, or the name that it is given. */
  readonly label: string;
  readonly value: Expression;
}

/** One value for each of some sweeps. */
export type Point = ReadonlyMap<Sweep, SweptValue>;

/** By the expressions that are sweeps. */
export type Sweeps = ReadonlyMap<Expression, Sweep>;

export function isSweep(value: Expression): boolean {
  return (value.kind === 'list' || value.kind === 'record') && value.tag?.text === 'sweep';
}

/** Every sweep that stands where one can stand: behind the "=" of a let, a param, an attribute or an entry of a record. */
export function collectSweeps(spaces: readonly Namespace[], report: (diagnostic: Diagnostic) => void): Sweeps {
  const sweeps = new Map<Expression, Sweep>();
  const collect: Collecting = { sweeps, report };
  for (const { module, prefix, definitions } of spaces) {
    for (const { name, value } of definitions.values()) {
      const path = `${prefix}${name.text}`;
      if (value !== undefined) visit(collect, value, { name: name.text, path, canBeNamed: true });
    }
    for (const { blockKind, name, attributes } of blocksIn(module)) {
      const isNamed = name !== undefined && 'text' in name;
      const owner = { path: isNamed ? `${prefix}${name.text}` : blockKind.text, canBeNamed: isNamed };
      visitEntries(collect, attributes, owner);
      if (name !== undefined && !('text' in name)) visit(collect, name, undefined);
    }
  }
  return sweeps;
}

interface Collecting {
  readonly sweeps: Map<Expression, Sweep>;
  report(diagnostic: Diagnostic): void;
}

type Place = Pick<Sweep, 'name' | 'path' | 'canBeNamed'>;

/** `place` is `undefined` inside of lists, arithmetic, text and other sweeps, where no sweep can stand. */
function visit(collect: Collecting, value: Expression, place: Place | undefined): void {
  if (isSweep(value)) {
    if (place === undefined) collect.report(problem.misplacedSweep(value.span));
    else register(collect, value, place);
    for (const part of partsOf(value)) visit(collect, part, undefined);
  } else if (value.kind === 'record') {
    if (place === undefined) for (const entry of value.entries) visit(collect, entry.value, undefined);
    else visitEntries(collect, value.entries, place);
  } else {
    for (const part of partsOf(value)) visit(collect, part, undefined);
  }
}

function visitEntries(
  collect: Collecting,
  entries: readonly Attribute[],
  owner: Pick<Sweep, 'path' | 'canBeNamed'>,
): void {
  for (const { name, value } of entries) {
    const { canBeNamed } = owner;
    visit(collect, value, { name: name.text, path: `${owner.path}.${name.text}`, canBeNamed });
  }
}

function register({ sweeps, report }: Collecting, expression: Expression, place: Place): void {
  const { span } = expression;
  const written = expression.kind === 'record' ? named(expression.entries, report) : unnamed(expression, report);
  const values = new Map<string, SweptValue & { readonly span: Span }>();
  for (const one of written) {
    const key = keyOfLabel(one.label);
    const first = values.get(key);
    if (first === undefined) values.set(key, one);
    else report(problem.sweptTwice(one.span, one.label, first.span));
  }
  const hasHole = partsOf(expression).some(({ kind }) => kind === 'broken');
  if (partsOf(expression).length === 0) report(problem.emptySweep(span, place.name));
  if (values.size === 0) return;
  const isOne = written.length === 1 && partsOf(expression).length === 1;
  if (isOne && !hasHole && !partsOf(expression).some(isRowOfNumbers)) report(problem.sweepOfOne(span, place.name));
  sweeps.set(expression, { ...place, values: [...values.values()], span });
}

type Labelled = SweptValue & { readonly span: Span };

function named(entries: readonly Attribute[], report: Collecting['report']): readonly Labelled[] {
  return entries.map(({ name: { text, span }, value }) => {
    if (!/^[\p{L}\p{N}_][\p{L}\p{N}_.+-]*$/u.test(text)) report(problem.oddVariantName(span, text));
    return { label: text, value, span };
  });
}

function unnamed(expression: Expression, report: Collecting['report']): readonly Labelled[] {
  const items = partsOf(expression).filter(({ kind }) => kind !== 'broken');
  const labels = items.map(labelOf);
  const odd = items.find((_, index) => labels[index] === undefined);
  const inRow = items.find(isRowOfNumbers);
  if (inRow !== undefined) report(problem.missingSweepComma(inRow.span, withCommas(inRow)));
  else if (odd !== undefined) report(problem.namelessValue(odd.span, expression.span, items));
  return items.map((value, index) => ({ label: labels[index] ?? `${index + 1}`, value, span: value.span }));
}

/** `-3 -4`, as someone writes two values who forgets the comma. */
const isRowOfNumbers = (item: Expression) =>
  item.kind === 'binary' && /^-?[\d.]+(?:\s+-[\d.]+)+$/.test(sourceText(item.span));

const withCommas = (item: Expression) => sourceText(item.span).replaceAll(/\s+-/g, ', -');

/** A value as it is written, where that is short and can stand in brackets and in the name of a file. */
export function labelOf(value: Expression): string | undefined {
  const written = sourceText(value.span);
  switch (value.kind) {
    case 'number':
    case 'size':
    case 'duration':
    case 'quantity':
    case 'word':
      return written;
    case 'negate':
      return value.of.kind === 'number' ? written.replaceAll(/\s/g, '').replace('\u2212', '-') : undefined;
    case 'choice':
      return value.picks.length === 0 && /^[\w.@()-]+$/.test(written) ? written : undefined;
    case 'text': {
      const text = value.parts.every((part) => typeof part === 'string') ? value.parts.join('') : '';
      return /^(?! )[\p{L}\p{N} _.+@~/\\-]{1,40}(?<! )$/u.test(text) ? text : undefined;
    }
    default:
      return undefined;
  }
}

/** Two labels of one key are one value: -3 and -3.0 are. */
export function keyOfLabel(label: string): string {
  const number = readNumber(label);
  return label.trim() === '' || Number.isNaN(number) ? label : String(number);
}
