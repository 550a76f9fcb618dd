// What a schedule is worth at a step, as python/lora_worker/expressions.py computes it: the same operations on the same
// 64-bit floats in the same order. Where Python has no number (a division by zero, a power that is too large, a
// negative number to a broken power) there is none here either, though JavaScript would go on with Infinity or NaN.
// Of powers the last place may differ, since each language asks its own library of functions.
// test/fixtures/schedules.json holds both to one table.

import { unreachable } from '../unreachable.ts';
import type { ScheduleExpression } from '../values.ts';

/** The value at an optimizer step, of which the first is 1. `undefined` where there is no finite one. */
export function valueAt(expression: ScheduleExpression, step: number): number | undefined {
  const value = compute(expression, step);
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

/**
 * Infinity and NaN are values on the way, which a later operation can turn into numbers again. `complex` is one too, of
 * which every operation makes NaN. `undefined` is none, and ends it all.
 */
type Value = number | 'complex' | undefined;

function compute(expression: ScheduleExpression, step: number): Value {
  if (typeof expression === 'number') return expression;
  if (expression === 'step') return step;
  if (expression.op === 'negate') {
    const of = compute(expression.of, step);
    return typeof of === 'number' ? -of : of;
  }
  const left = compute(expression.left, step);
  const right = left === undefined ? undefined : compute(expression.right, step);
  if (left === undefined || right === undefined) return undefined;
  if (left === 'complex' || right === 'complex') return Number.NaN;
  switch (expression.op) {
    case '+':
      return left + right;
    case '-':
      return left - right;
    case '*':
      return left * right;
    case '/':
      return right === 0 ? undefined : left / right;
    case '**':
      return power(left, right);
    default:
      return unreachable(expression);
  }
}

/** As float_pow in CPython's Objects/floatobject.c has it. */
function power(base: number, exponent: number): Value {
  // JavaScript says NaN of these two.
  if (base === 1) return 1;
  if (base === -1 && Math.abs(exponent) === Number.POSITIVE_INFINITY) return 1;
  if (!Number.isFinite(base) || !Number.isFinite(exponent)) return base ** exponent;
  if (base === 0 && exponent < 0) return undefined;
  const size = Math.abs(base) ** exponent;
  if (!Number.isFinite(size)) return undefined;
  return base < 0 && !Number.isInteger(exponent) ? 'complex' : base ** exponent;
}

/** A step at which a schedule has no value, or one below zero. */
export interface OddStep {
  readonly step: number;
  readonly value: number | undefined;
}

/** So many steps are looked at one by one; of more, the first ones, and then some all the way to the last. */
const mostSteps = 20_000;

/** The first step of those from 1 to `steps` at which a schedule is no size of anything. */
export function firstOddStep(expression: ScheduleExpression, steps: number): OddStep | undefined {
  const apart = Math.max(1, Math.ceil((steps - mostSteps) / mostSteps));
  for (let step = 1; step <= steps; step = nextStep(step, steps, apart)) {
    const value = valueAt(expression, step);
    if (value === undefined || value < 0) return { step, value };
  }
  return undefined;
}

function nextStep(step: number, steps: number, apart: number): number {
  if (step < mostSteps || step === steps) return step + 1;
  return Math.min(step + apart, steps);
}
