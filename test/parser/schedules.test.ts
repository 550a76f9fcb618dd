// What schedules are worth, as the worker computes it, and those that are worth nothing at some step.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { firstOddStep, valueAt } from '../../src/parser/checking/schedules.ts';
import type { ScheduleExpression } from '../../src/parser/model.ts';
import { blockOf, compileText, expectProblems, trainWith } from './marked.ts';

interface Row {
  readonly tree: ScheduleExpression;
  readonly step: number;
  readonly value: number | null;
}

// Written by python/tests/test_expressions.py, which holds the worker to it.
const table: readonly Row[] = JSON.parse(readFileSync(new URL('../fixtures/schedules.json', import.meta.url), 'utf8'));

const hasPower = (tree: ScheduleExpression): boolean =>
  typeof tree === 'object' &&
  (tree.op === '**' || (tree.op === 'negate' ? hasPower(tree.of) : hasPower(tree.left) || hasPower(tree.right)));

test('every row of the table that the worker wrote has the same value here: to the bit, but for powers', () => {
  expect(table.filter(({ value }) => value === null).length).toBeGreaterThan(50);
  for (const { tree, step, value } of table) {
    const here = valueAt(tree, step);
    const told = JSON.stringify({ tree, step, value, here });
    if (value === null || here === undefined || !hasPower(tree)) expect(here, told).toBe(value ?? undefined);
    else expect(Math.abs(here - value), told).toBeLessThanOrEqual(1e-12 * Math.max(1, Math.abs(value)));
  }
});

test('a tree is worth what its parts are worth', () => {
  const leaf = fc.oneof(fc.constant('step' as const), fc.integer({ min: -50, max: 50 }), fc.double({ noNaN: true }));
  fc.assert(
    fc.property(
      leaf,
      leaf,
      fc.constantFrom('+', '-', '*'),
      fc.integer({ min: 1, max: 1000 }),
      (left, right, op, step) => {
        const [a, b] = [left, right].map((part) => (part === 'step' ? step : part)) as [number, number];
        const whole = op === '+' ? a + b : op === '-' ? a - b : a * b;
        expect(valueAt({ op, left, right }, step)).toBe(Number.isFinite(whole) ? whole : undefined);
      },
    ),
  );
});

const clip = (schedule: string, more = '') =>
  trainWith(`optimizer = SAVEUS { clip_gradients = true  clip_lambda = ${schedule} } ${more}`);

describe('a schedule that is no size at a step of the training', () => {
  test('is told with the step', () => {
    const [below] = expectProblems(['odd-schedule'], clip('«10 - step»', 'steps = 40'));
    expect(below?.message).toBe('"clip_lambda" is below zero at step 11: -1.');
    const [none] = expectProblems(['odd-schedule'], clip('«1 / (40 - step»)', 'steps = 40'));
    expect(none?.message).toBe('"clip_lambda" has no finite value at step 40.');
    expectProblems(['odd-schedule'], clip('«-1»'));
    expectProblems(['odd-schedule'], `let c = 0 - step ${clip('«c»')}`);
  });

  test('is fine where the training ends before, and where nothing is clipped', () => {
    expect(compileText(clip('10 - step', 'steps = 10')).diagnostics).toEqual([]);
    expect(compileText(trainWith('optimizer = SAVEUS { clip_lambda = 0 - step }')).diagnostics).toEqual([]);
    expect(blockOf(clip('0'), 'train').attributes.optimizer).toMatchObject({ clip_lambda: 0 });
    expect(compileText(clip('step')).diagnostics).toEqual([]);
  });

  test('is found in the last step of ten million, of which few are looked at', () => {
    let looks = 0;
    const last: ScheduleExpression = {
      op: '-',
      left: 9_999_999,
      get right() {
        looks += 1;
        return 'step' as const;
      },
    };
    expect(firstOddStep(last, 10_000_000)).toEqual({ step: 10_000_000, value: -1 });
    expect(looks).toBeLessThan(50_000);
  });
});
