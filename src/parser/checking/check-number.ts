// Numbers: arithmetic that is done while checking, ranges, and arithmetic over `step` that is kept for later.

import { needs } from '../diagnostics/describe.ts';
import type { Via } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { Expression, QuantityExpression } from '../reading/ast.ts';
import { integer, isInRange, type NumberType, number, type Type } from '../schema/types.ts';
import { type Span, sourceText } from '../source.ts';
import { unreachable } from '../unreachable.ts';
import type { ScheduleExpression } from '../values.ts';
import { checkValue } from './check-value.ts';
import { numberIn, unitsOf } from './quantities.ts';
import { resolve, type Scope } from './scope.ts';
import { instead, placeOf, plainText, type Written, wrongType } from './written.ts';

export function checkNumber(scope: Scope, type: NumberType, name: string, written: Written): number | undefined {
  const { value, via } = written;
  if (value.kind === 'quantity') return checkQuantity(scope, type, name, { value, via });
  if (value.kind !== 'number' && value.kind !== 'negate' && value.kind !== 'binary') {
    const quoted = /^\s*([+-]?[\d.]+(?:e[+-]?\d+)?)\s*$/i.exec(plainText(value) ?? '')?.[1];
    return wrongType(scope, type, name, written, instead(quoted));
  }
  const result = compute(scope, name, value);
  if (result === undefined) return undefined;
  if (!Number.isFinite(result)) {
    scope.report(problem.notComputable(placeOf(written)));
    return undefined;
  }
  return inRange(scope, type, name, { result, via, place: placeOf(written) });
}

function inRange(
  scope: Scope,
  type: NumberType,
  name: string,
  { result, via, place }: { readonly result: number; readonly via: Via | undefined; readonly place: Span },
): number | undefined {
  if (isInRange(type, result)) return result;
  scope.report(problem.outOfRange(place, name, type, result, via));
  return undefined;
}

/** `1024px`, `12%`: where the row knows the unit, the number that it means there. */
function checkQuantity(
  scope: Scope,
  type: NumberType,
  name: string,
  { value, via }: { readonly value: QuantityExpression; readonly via: Via | undefined },
): number | undefined {
  const place = via?.usedAt ?? value.span;
  const result = numberIn(type, value);
  if (result !== undefined) return inRange(scope, type, name, { result, via, place });
  scope.report(problem.wrongUnit(place, { name, value, takes: unitsOf(type), via }));
  return undefined;
}

/** Counts are whole, and shares below 1, in percent as well. */
export function checkStepsOrShare(scope: Scope, type: Type, name: string, written: Written): number | undefined {
  const { value, via } = written;
  if (value.kind === 'quantity' && value.measures === 'share') {
    if (value.value < 1) return value.value;
    scope.report(problem.shareTooLarge(placeOf(written), name, sourceText(value.span), via));
    return undefined;
  }
  if (value.kind === 'quantity') {
    const takes = 'It is a number of steps, or a share of them, as in 0.1 or 10%.';
    scope.report(problem.wrongUnit(placeOf(written), { name, value, takes, via }));
    return undefined;
  }
  const text = plainText(value);
  if (text === undefined && !['number', 'negate', 'binary'].includes(value.kind)) {
    return wrongType(scope, type, name, written);
  }
  if (text === undefined) {
    const amount = checkNumber(scope, number({ min: 0 }), name, written);
    return amount !== undefined && amount >= 1 ? checkNumber(scope, integer(), name, written) : amount;
  }
  const percent = /^\s*(\d+(?:\.\d+)?)\s*%\s*$/.exec(text)?.[1];
  if (percent === undefined) return wrongType(scope, type, name, written);
  const share = Number(percent) / 100;
  if (share < 1) return share;
  scope.report(problem.shareTooLarge(placeOf(written), name, text.trim(), via));
  return undefined;
}

/** Arithmetic. Every leaf has to be a number; `undefined` when one is not, which has been complained about. */
export function compute(scope: Scope, name: string, value: Expression): number | undefined {
  return scope.step(value.span, () => computeOnce(scope, name, value));
}

function computeOnce(scope: Scope, name: string, value: Expression): number | undefined {
  if (value.kind === 'number') return value.value;
  if (value.kind === 'negate') {
    const of = compute(scope, name, value.of);
    return of === undefined ? undefined : -of;
  }
  if (value.kind === 'binary') {
    const left = compute(scope, name, value.left);
    const right = compute(scope, name, value.right);
    return left === undefined || right === undefined ? undefined : operate(value.operator, left, right);
  }
  const written = resolve(scope, value, () => false);
  if (written === undefined || written.value.kind === 'broken') return undefined;
  if (written.value.kind === 'number' || written.value.kind === 'negate' || written.value.kind === 'binary') {
    return compute(scope, name, written.value);
  }
  if (written.value.kind !== 'word') return wrongType(scope, number(), name, written);
  const { text } = written.value;
  const names = scope.definitionsSeenBy(written.value.span.source);
  const available = names.map((one) => `"${one}"`);
  scope.report(
    problem.unknownName(placeOf(written), { name: text, wanted: 'a number', meant: nearest(text, names), available }),
  );
  return undefined;
}

function operate(operator: '+' | '-' | '*' | '/' | '**', left: number, right: number): number {
  switch (operator) {
    case '+':
      return left + right;
    case '-':
      return left - right;
    case '*':
      return left * right;
    case '/':
      return left / right;
    case '**':
      return left ** right;
    default:
      return unreachable(operator);
  }
}

export function checkSchedule(
  scope: Scope,
  type: Type,
  name: string,
  written: Written,
): ScheduleExpression | undefined {
  const { value } = written;
  if (value.kind === 'number') return value.value;
  if (value.kind === 'word' && value.text === 'step') return 'step';
  const part = (of: Expression) =>
    scope.step(of.span, () => checkValue(scope, type, name, of) as ScheduleExpression | undefined);
  if (value.kind === 'negate') {
    const of = part(value.of);
    return of === undefined ? undefined : { op: 'negate', of };
  }
  if (value.kind === 'binary') {
    const left = part(value.left);
    const right = part(value.right);
    return left === undefined || right === undefined ? undefined : { op: value.operator, left, right };
  }
  if (value.kind !== 'word') return wrongType(scope, type, name, written);
  const names = ['step', ...scope.definitionsSeenBy(value.span.source)];
  const available = [`"${names.join('", "')}"`];
  const details = { name: value.text, wanted: needs(type), meant: nearest(value.text, names), available };
  scope.report(problem.unknownName(placeOf(written), details));
  return undefined;
}
