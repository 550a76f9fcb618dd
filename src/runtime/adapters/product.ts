// ΔW of an adapted module before its scale, as its family writes it down: a product of factors, a whole matrix, or two
// of these multiplied place by place (LoHa) or each with each (LoKr); and the two forms that any of them can be brought
// into exactly: a pair of factors, or the whole matrix.
//
// A kernel's places are columns: an out × in × k × k weight is a matrix of out × in·k².

/** Row after row. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

/** up · down: out × rank times rank × columns. */
export interface FactorPair {
  readonly kind: 'factors';
  readonly up: Matrix;
  readonly down: Matrix;
}

export interface WholeMatrix {
  readonly kind: 'whole';
  readonly whole: Matrix;
}

export type Product =
  | FactorPair
  | WholeMatrix
  | { readonly kind: 'hadamard'; readonly first: FactorPair; readonly second: FactorPair }
  | {
      readonly kind: 'kron';
      readonly first: FactorPair | WholeMatrix;
      readonly second: FactorPair | WholeMatrix;
    };

/**
 * The same ΔW as two factors, without rounding: their rank is r for a pair, r₁·r₂ for a product of two, and the shorter
 * side of a whole matrix, whose other factor is the identity.
 */
export function asFactors(product: Product): FactorPair {
  switch (product.kind) {
    case 'factors':
      return product;
    case 'whole':
      return besideIdentity(product.whole);
    case 'hadamard': {
      const { first, second } = product;
      return { kind: 'factors', up: columnPairs(first.up, second.up), down: rowPairs(first.down, second.down) };
    }
    case 'kron': {
      // (A·B) ⊗ (C·D) = (A ⊗ C)(B ⊗ D)
      const [a, b] = [asFactors(product.first), asFactors(product.second)];
      return { kind: 'factors', up: kronecker(a.up, b.up), down: kronecker(a.down, b.down) };
    }
  }
}

/** Adds scale · product to a matrix of its shape. */
export function addTo(target: Matrix, product: Product, scale: number): void {
  if (product.kind === 'factors') addProduct(target.data, product, scale);
  else addScaled(target.data, asWhole(product).data, scale);
}

/** A whole matrix as it is; anything else in memory of its own. */
export function asWhole(product: Product): Matrix {
  switch (product.kind) {
    case 'whole':
      return product.whole;
    case 'factors': {
      const whole = zeros(product.up.rows, product.down.columns);
      addProduct(whole.data, product, 1);
      return whole;
    }
    case 'hadamard': {
      const [a, b] = [asWhole(product.first), asWhole(product.second)];
      return { ...a, data: a.data.map((value, i) => value * (b.data[i] as number)) };
    }
    case 'kron':
      return kronecker(asWhole(product.first), asWhole(product.second));
  }
}

/** A matrix to add to. */
export function zeros(rows: number, columns: number): Matrix {
  return { rows, columns, data: new Float64Array(rows * columns) };
}

/** The identity on the shorter side, so that the rank is the smallest that holds any matrix of this shape. */
export function besideIdentity(whole: Matrix): FactorPair {
  const rank = Math.min(whole.rows, whole.columns);
  const identity = zeros(rank, rank);
  for (let i = 0; i < rank; i += 1) identity.data[i * rank + i] = 1;
  return whole.rows <= whole.columns
    ? { kind: 'factors', up: identity, down: whole }
    : { kind: 'factors', up: whole, down: identity };
}

function addScaled(target: Float64Array, data: Float64Array, scale: number): void {
  for (let i = 0; i < data.length; i += 1) target[i] = (target[i] as number) + scale * (data[i] as number);
}

/** Short enough that four rows of the sum stay in the processor's nearest cache while all of `down` passes by. */
const STRIP = 512;

function addProduct(target: Float64Array, product: FactorPair, scale: number): void {
  const [rows, rank, width] = [product.up.rows, product.down.rows, product.down.columns];
  for (let from = 0; from < width; from += STRIP) {
    const to = Math.min(from + STRIP, width);
    for (let row = 0; row < rows; row += 4) {
      for (let at = 0; at < rank; at += 4) addTile({ target, product, scale, row, at, from, to });
    }
  }
}

interface Tile {
  readonly target: Float64Array;
  readonly product: FactorPair;
  readonly scale: number;
  readonly row: number;
  readonly at: number;
  readonly from: number;
  readonly to: number;
}

/**
 * Four rows of the sum and four of `down` in one pass, so that each number is loaded once for four products: three times
 * as fast as row by row. Beyond the last row the last is taken again, times 0.
 */
function addTile({ target: t, product: { up, down }, scale, row, at, from, to }: Tile): void {
  const [rank, width, y] = [down.rows, down.columns, down.data];
  const factor = (r: number, c: number): number =>
    row + r < up.rows && at + c < rank ? scale * (up.data[(row + r) * rank + at + c] as number) : 0;
  const [a0, a1, a2, a3] = [factor(0, 0), factor(0, 1), factor(0, 2), factor(0, 3)];
  const [b0, b1, b2, b3] = [factor(1, 0), factor(1, 1), factor(1, 2), factor(1, 3)];
  const [c0, c1, c2, c3] = [factor(2, 0), factor(2, 1), factor(2, 2), factor(2, 3)];
  const [d0, d1, d2, d3] = [factor(3, 0), factor(3, 1), factor(3, 2), factor(3, 3)];
  const [y0, y1] = [at * width, Math.min(at + 1, rank - 1) * width];
  const [y2, y3] = [Math.min(at + 2, rank - 1) * width, Math.min(at + 3, rank - 1) * width];
  const [ta, tb] = [row * width, Math.min(row + 1, up.rows - 1) * width];
  const [tc, td] = [Math.min(row + 2, up.rows - 1) * width, Math.min(row + 3, up.rows - 1) * width];
  for (let n = from; n < to; n += 1) {
    const p = y[y0 + n] as number;
    const q = y[y1 + n] as number;
    const r = y[y2 + n] as number;
    const s = y[y3 + n] as number;
    t[ta + n] = (t[ta + n] as number) + a0 * p + a1 * q + a2 * r + a3 * s;
    t[tb + n] = (t[tb + n] as number) + b0 * p + b1 * q + b2 * r + b3 * s;
    t[tc + n] = (t[tc + n] as number) + c0 * p + c1 * q + c2 * r + c3 * s;
    t[td + n] = (t[td + n] as number) + d0 * p + d1 * q + d2 * r + d3 * s;
  }
}

/** Each row of one with each of the other, place by place. */
function rowPairs(a: Matrix, b: Matrix): Matrix {
  const pairs = zeros(a.rows * b.rows, a.columns);
  let at = 0;
  for (let row = 0; row < a.rows; row += 1) {
    for (let other = 0; other < b.rows; other += 1) {
      for (let i = 0; i < a.columns; i += 1) {
        pairs.data[at] = (a.data[row * a.columns + i] as number) * (b.data[other * b.columns + i] as number);
        at += 1;
      }
    }
  }
  return pairs;
}

/** Each column of one with each of the other, in the order of `rowPairs`. */
function columnPairs(a: Matrix, b: Matrix): Matrix {
  const pairs = zeros(a.rows, a.columns * b.columns);
  let at = 0;
  for (let row = 0; row < a.rows; row += 1) {
    for (let column = 0; column < a.columns; column += 1) {
      const factor = a.data[row * a.columns + column] as number;
      for (let other = 0; other < b.columns; other += 1) {
        pairs.data[at] = factor * (b.data[row * b.columns + other] as number);
        at += 1;
      }
    }
  }
  return pairs;
}

function kronecker(a: Matrix, b: Matrix): Matrix {
  const product = zeros(a.rows * b.rows, a.columns * b.columns);
  let at = 0;
  for (let row = 0; row < product.rows; row += 1) {
    const [aStart, bStart] = [Math.floor(row / b.rows) * a.columns, (row % b.rows) * b.columns];
    for (let column = 0; column < a.columns; column += 1) {
      const factor = a.data[aStart + column] as number;
      for (let i = 0; i < b.columns; i += 1) {
        product.data[at] = factor * (b.data[bStart + i] as number);
        at += 1;
      }
    }
  }
  return product;
}
