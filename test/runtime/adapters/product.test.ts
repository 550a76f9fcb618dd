// The two forms of what adapters multiply out, against the definitions of the products, one number at a time.

import { expect, test } from 'vitest';
import {
  addTo,
  asFactors,
  asWhole,
  besideIdentity,
  type FactorPair,
  type Matrix,
  type Product,
  type WholeMatrix,
  zeros,
} from '../../../src/runtime/adapters/product.ts';
import { multiply } from '../../helpers/linear-algebra.ts';
import { randomNumbers } from '../stages/lora-files.ts';

const random = randomNumbers(5);

function matrix(rows: number, columns: number): Matrix {
  return { rows, columns, data: Float64Array.from({ length: rows * columns }, random) };
}

const pair = (out: number, rank: number, columns: number): FactorPair => ({
  kind: 'factors',
  up: matrix(out, rank),
  down: matrix(rank, columns),
});

const whole = (rows: number, columns: number): WholeMatrix => ({ kind: 'whole', whole: matrix(rows, columns) });

/** By the definition of each product. */
function defined(product: Product): Matrix {
  if (product.kind === 'factors') return multiply(product.up, product.down);
  if (product.kind === 'whole') return product.whole;
  const [a, b] = [defined(product.first), defined(product.second)];
  const isKron = product.kind === 'kron';
  const [rows, columns] = isKron ? [a.rows * b.rows, a.columns * b.columns] : [a.rows, a.columns];
  const at = (m: Matrix, row: number, column: number): number => m.data[row * m.columns + column] ?? Number.NaN;
  const data = Float64Array.from({ length: rows * columns }, (_, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    return isKron
      ? at(a, Math.floor(row / b.rows), Math.floor(column / b.columns)) * at(b, row % b.rows, column % b.columns)
      : at(a, row, column) * at(b, row, column);
  });
  return { rows, columns, data };
}

const products: readonly (readonly [what: string, product: Product, rank: number])[] = [
  ['factors', pair(7, 3, 5), 3],
  ['factors wider than a strip', pair(5, 6, 1100), 6],
  ['factors of more ranks than the weight has', pair(3, 9, 4), 9],
  ['a wide matrix', whole(3, 8), 3],
  ['a tall matrix', whole(8, 3), 3],
  ['LoHa', { kind: 'hadamard', first: pair(7, 3, 5), second: pair(7, 2, 5) }, 6],
  ['LoKr of matrices', { kind: 'kron', first: whole(2, 5), second: whole(3, 2) }, 4],
  ['LoKr with one factor', { kind: 'kron', first: whole(4, 2), second: pair(5, 3, 6) }, 6],
  ['LoKr of factors', { kind: 'kron', first: pair(2, 3, 4), second: pair(5, 1, 6) }, 3],
];

test.each(products)('%s: both forms are what is defined', (_, product, rank) => {
  const wanted = defined(product);
  expectClose(asWhole(product), wanted);
  const factors = asFactors(product);
  expect(factors.down.rows).toBe(rank);
  expectClose(multiply(factors.up, factors.down), wanted);
});

test.each(products)('%s is added with a scale', (_, product) => {
  const wanted = defined(product);
  const sum = zeros(wanted.rows, wanted.columns);
  addTo(sum, product, 2);
  addTo(sum, product, -0.5);
  expectClose(sum, { ...wanted, data: wanted.data.map((value) => value * 1.5) });
});

test('a matrix beside the identity keeps its numbers', () => {
  const wide = matrix(3, 8);
  const tall = matrix(8, 3);
  expect(besideIdentity(wide).down).toEqual(wide);
  expect(besideIdentity(tall).up).toEqual(tall);
  expect(multiply(besideIdentity(tall).up, besideIdentity(tall).down)).toEqual(tall);
});

function expectClose(found: Matrix, wanted: Matrix): void {
  expect([found.rows, found.columns]).toEqual([wanted.rows, wanted.columns]);
  for (const [i, value] of found.data.entries()) expect(value).toBeCloseTo(wanted.data[i] ?? Number.NaN, 12);
}
