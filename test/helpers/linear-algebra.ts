// Linear algebra for tests: slow, obvious, in double precision.

/** Row-major. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

export function matrix(rows: number, columns: number, data: Iterable<number>): Matrix {
  return { rows, columns, data: Float64Array.from(data) };
}

export function at(m: Matrix, row: number, column: number): number {
  return m.data[row * m.columns + column] ?? Number.NaN;
}

export function multiply(a: Matrix, b: Matrix): Matrix {
  const data = new Float64Array(a.rows * b.columns);
  for (let i = 0; i < a.rows; i += 1) {
    for (let k = 0; k < a.columns; k += 1) {
      const left = at(a, i, k);
      for (let j = 0; j < b.columns; j += 1)
        data[i * b.columns + j] = (data[i * b.columns + j] ?? 0) + left * at(b, k, j);
    }
  }
  return { rows: a.rows, columns: b.columns, data };
}

export function transpose(m: Matrix): Matrix {
  const data = new Float64Array(m.data.length);
  for (let i = 0; i < m.rows; i += 1) for (let j = 0; j < m.columns; j += 1) data[j * m.rows + i] = at(m, i, j);
  return { rows: m.columns, columns: m.rows, data };
}

export function frobenius(m: Matrix): number {
  return Math.sqrt(m.data.reduce((sum, value) => sum + value * value, 0));
}

/** ‖a − b‖ / ‖b‖. */
export function relativeError(a: Matrix, b: Matrix): number {
  const difference = a.data.map((value, i) => value - (b.data[i] ?? Number.NaN));
  return frobenius({ ...a, data: difference }) / frobenius(b);
}

/** Rows of `ut` and `vt` are directions, the strongest first. */
export interface Decomposition {
  readonly ut: Matrix;
  readonly sigma: readonly number[];
  readonly vt: Matrix;
}

/** Singular values of any matrix, by turning pairs of columns until all are orthogonal (one-sided Jacobi). */
export function decompose(m: Matrix): Decomposition {
  if (m.rows < m.columns) {
    const { ut, sigma, vt } = decompose(transpose(m));
    return { ut: vt, sigma, vt: ut };
  }
  const columns = rowsOf(transpose(m));
  const turns = rowsOf(identity(m.columns));
  for (let sweep = 0; sweep < 60 && turnAll(columns, turns); sweep += 1);
  const lengths = columns.map((column) => Math.sqrt(dot(column, column)));
  const order = lengths.map((_, i) => i).sort((a, b) => (lengths[b] ?? 0) - (lengths[a] ?? 0));
  const unit = (i: number): Float64Array =>
    (columns[i] ?? new Float64Array()).map((value) => value / (lengths[i] || 1));
  return {
    ut: fromRows(order.map(unit), m.rows),
    sigma: order.map((i) => lengths[i] ?? 0),
    vt: fromRows(
      order.map((i) => turns[i] ?? new Float64Array()),
      m.columns,
    ),
  };
}

/** The same for up · down, without forming the product: first up, then what is left of it times down. */
export function decomposeProduct(up: Matrix, down: Matrix): Decomposition {
  const outer = decompose(up);
  const middle = multiply(outer.vt, down);
  const scaled = {
    ...middle,
    data: middle.data.map((value, i) => value * (outer.sigma[Math.floor(i / down.columns)] ?? 0)),
  };
  const inner = decompose(scaled);
  return { ut: multiply(inner.ut, outer.ut), sigma: inner.sigma, vt: inner.vt };
}

function turnAll(columns: Float64Array[], turns: Float64Array[]): boolean {
  let turned = false;
  for (let p = 0; p < columns.length; p += 1) {
    for (let q = p + 1; q < columns.length; q += 1) {
      const [a, b, c, d] = [columns[p], columns[q], turns[p], turns[q]];
      if (a === undefined || b === undefined || c === undefined || d === undefined) continue;
      const [alpha, beta, gamma] = [dot(a, a), dot(b, b), dot(a, b)];
      if (Math.abs(gamma) <= 1e-15 * Math.sqrt(alpha * beta)) continue;
      turned = true;
      const zeta = (beta - alpha) / (2 * gamma);
      const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
      const cos = 1 / Math.sqrt(1 + t * t);
      turn(a, b, cos, cos * t);
      turn(c, d, cos, cos * t);
    }
  }
  return turned;
}

function turn(a: Float64Array, b: Float64Array, cos: number, sin: number): void {
  for (let i = 0; i < a.length; i += 1) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0];
    a[i] = cos * x - sin * y;
    b[i] = sin * x + cos * y;
  }
}

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += (a[i] ?? 0) * (b[i] ?? 0);
  return sum;
}

export function rowsOf(m: Matrix): Float64Array[] {
  return Array.from({ length: m.rows }, (_, i) => m.data.slice(i * m.columns, (i + 1) * m.columns));
}

function fromRows(rows: readonly Float64Array[], columns: number): Matrix {
  return { rows: rows.length, columns, data: Float64Array.from(rows.flatMap((row) => [...row])) };
}

function identity(size: number): Matrix {
  return {
    rows: size,
    columns: size,
    data: Float64Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? 1 : 0)),
  };
}
