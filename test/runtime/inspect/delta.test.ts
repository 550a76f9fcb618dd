// Inner products of ΔW in every form, against the sum over the whole product.

import { expect, test } from 'vitest';
import {
  columnsOf,
  type Delta,
  type Dense,
  type Factors,
  inner,
  rowsOf,
  toDense,
} from '../../../src/runtime/inspect/delta.ts';
import { matrix, multiply } from '../../helpers/linear-algebra.ts';
import { randomNumbers } from '../stages/lora-files.ts';

const random = randomNumbers(3);
const numbers = (length: number): Float64Array => Float64Array.from({ length }, random);

function factors(
  out: number,
  rank: number,
  columns: number,
  scale = 0.5,
): { readonly delta: Factors; readonly whole: Float64Array } {
  const [up, down] = [numbers(out * rank), numbers(rank * columns)];
  const whole = multiply(matrix(out, rank, up), matrix(rank, columns, down)).data.map((value) => value * scale);
  return {
    delta: { kind: 'factors', up: columnsOf(up, out, rank), down: rowsOf(down, rank, columns), scale },
    whole: Float64Array.from(whole),
  };
}

const dot = (a: Float64Array, b: Float64Array): number =>
  a.reduce((total, value, index) => total + value * (b[index] ?? 0), 0);

test.each([
  [7, 1, 9],
  [6, 4, 5],
  [20, 13, 1100],
  [3, 30, 4],
])('factors of %i × %i × %i', (out, rank, columns) => {
  const [a, b] = [factors(out, rank, columns), factors(out, rank + 2, columns, -2)];
  expect(inner(a.delta, a.delta) / dot(a.whole, a.whole)).toBeCloseTo(1, 11);
  expect(inner(a.delta, b.delta)).toBeCloseTo(dot(a.whole, b.whole), 8);
  expect(dot(toDense(a.delta).data, toDense(a.delta).data) * 0.25).toBeCloseTo(dot(a.whole, a.whole), 8);
});

test('a Kronecker product is measured by its factors, and against others in full', () => {
  const first: Dense = { kind: 'dense', out: 2, columns: 3, data: numbers(6), scale: 1 };
  const second = factors(4, 2, 5, 1);
  const kron: Delta = { kind: 'kron', first, second: second.delta, scale: 3 };
  const whole = new Float64Array(8 * 15);
  for (let o = 0; o < 8; o += 1) {
    for (let i = 0; i < 15; i += 1) {
      const [a = 0, b = 0] = [first.data[(o >> 2) * 3 + Math.floor(i / 5)], second.whole[(o % 4) * 5 + (i % 5)]];
      whole[o * 15 + i] = 3 * a * b;
    }
  }
  expect(inner(kron, kron) / dot(whole, whole)).toBeCloseTo(1, 11);
  const other = factors(8, 3, 15);
  expect(inner(kron, other.delta)).toBeCloseTo(dot(whole, other.whole), 8);
});
