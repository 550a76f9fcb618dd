// ΔW of a module, held in the form that its file has it in, and inner products of two of them.
// ‖B·A‖² is the sum of (BᵀB)∘(AAᵀ), so the product of two factors, a hundred times as large as they are, is seldom formed.
// All sums are in doubles.

/** Rows are padded with zeros to a multiple of four, which changes no sum: four rows at a time are read in one pass. */
export interface Rows {
  readonly rows: number;
  readonly width: number;
  readonly data: Float64Array;
}

/** ΔW = scale · upᵀ · down. */
export interface Factors {
  readonly kind: 'factors';
  /** rank × out: transposed, so that both factors are read along their rows. */
  readonly up: Rows;
  /** rank × columns. */
  readonly down: Rows;
  readonly scale: number;
}

/** ΔW = scale · data, out × columns. */
export interface Dense {
  readonly kind: 'dense';
  readonly out: number;
  readonly columns: number;
  readonly data: Float64Array;
  readonly scale: number;
}

/** ΔW = scale · first ⊗ second, where a kernel's places are columns of `second`. */
export interface Kron {
  readonly kind: 'kron';
  readonly first: Factors | Dense;
  readonly second: Factors | Dense;
  readonly scale: number;
}

export type Delta = Factors | Dense | Kron;

/** The sum of the products of equal places. Both must have the same shape. */
export function inner(a: Delta, b: Delta): number {
  if (a.kind === 'factors' && b.kind === 'factors') return a.scale * b.scale * factorInner(a, b);
  if (a.kind === 'kron' && b.kind === 'kron' && sameShape(a.first, b.first)) {
    return a.scale * b.scale * inner(a.first, b.first) * inner(a.second, b.second);
  }
  const [x, y] = [toDense(a), a === b ? undefined : toDense(b)];
  return x.scale * (y ?? x).scale * dot(x.data, (y ?? x).data);
}

export function shapeOf(delta: Delta): readonly [out: number, columns: number] {
  switch (delta.kind) {
    case 'factors':
      return [delta.up.width, delta.down.width];
    case 'dense':
      return [delta.out, delta.columns];
    case 'kron': {
      const [[a, c], [b, d]] = [shapeOf(delta.first), shapeOf(delta.second)];
      return [a * b, c * d];
    }
  }
}

export function sameShape(a: Delta, b: Delta): boolean {
  return `${shapeOf(a)}` === `${shapeOf(b)}`;
}

/** Whether two are the same numbers in the same form. */
export function isEqual(a: Delta, b: Delta): boolean {
  if (a.scale !== b.scale || !sameShape(a, b)) return false;
  if (a.kind === 'factors' && b.kind === 'factors')
    return sameNumbers(a.up.data, b.up.data) && sameNumbers(a.down.data, b.down.data);
  if (a.kind === 'dense' && b.kind === 'dense') return sameNumbers(a.data, b.data);
  return a.kind === 'kron' && b.kind === 'kron' && isEqual(a.first, b.first) && isEqual(a.second, b.second);
}

function sameNumbers(a: Float64Array, b: Float64Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

/** Rows of a matrix that lies row after row. */
export function rowsOf(data: Float64Array, rows: number, width: number): Rows {
  if (rows % 4 === 0) return { rows, width, data };
  const padded = new Float64Array(Math.ceil(rows / 4) * 4 * width);
  padded.set(data);
  return { rows: padded.length / width, width, data: padded };
}

/** The columns of a matrix of `rows` × `width` as rows. */
export function columnsOf(data: Float64Array, rows: number, width: number): Rows {
  const padded = Math.ceil(width / 4) * 4;
  const turned = new Float64Array(padded * rows);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < width; column += 1) turned[column * rows + row] = data[row * width + column] ?? 0;
  }
  return { rows: padded, width: rows, data: turned };
}

export function toDense(delta: Delta): Dense {
  if (delta.kind === 'dense') return delta;
  return delta.kind === 'factors' ? multiplied(delta) : kronecker(delta);
}

function factorInner(a: Factors, b: Factors): number {
  const isSame = a.up === b.up && a.down === b.down;
  const ups = gram(a.up, b.up, isSame);
  const downs = gram(a.down, b.down, isSame);
  if (!isSame) return dot(ups, downs);
  // Only the lower half was computed; what is off the diagonal counts twice.
  let [diagonal, below] = [0, 0];
  for (let row = 0; row < a.up.rows; row += 1) {
    const start = row * a.up.rows;
    for (let column = 0; column < row; column += 1) below += (ups[start + column] ?? 0) * (downs[start + column] ?? 0);
    diagonal += (ups[start + row] ?? 0) * (downs[start + row] ?? 0);
  }
  return diagonal + 2 * below;
}

/** Short enough that four rows against four stay in the processor's nearest cache. */
const STRIP = 512;

/** The inner product of each row of `a` with each of `b`. With `lower`, only what is on or below the diagonal is right. */
function gram(a: Rows, b: Rows, lower: boolean): Float64Array {
  const products = new Float64Array(a.rows * b.rows);
  for (let from = 0; from < a.width; from += STRIP) {
    const to = Math.min(from + STRIP, a.width);
    for (let row = 0; row < a.rows; row += 4) {
      const last = lower ? row : b.rows - 4;
      for (let column = 0; column <= last; column += 4) addTile({ a, b, row, column, from, to, products });
    }
  }
  return products;
}

interface Tile {
  readonly a: Rows;
  readonly b: Rows;
  readonly row: number;
  readonly column: number;
  readonly from: number;
  readonly to: number;
  readonly products: Float64Array;
}

/** Sixteen inner products in one pass, so that each number is loaded once for four of them: four times as fast as one by one. */
function addTile({ a, b, row, column, from, to, products }: Tile): void {
  const [x, y] = [a.data, b.data];
  const [x0, y0] = [row * a.width, column * b.width];
  const [x1, x2, x3] = [x0 + a.width, x0 + 2 * a.width, x0 + 3 * a.width];
  const [y1, y2, y3] = [y0 + b.width, y0 + 2 * b.width, y0 + 3 * b.width];
  let [s00, s01, s02, s03, s10, s11, s12, s13] = [0, 0, 0, 0, 0, 0, 0, 0];
  let [s20, s21, s22, s23, s30, s31, s32, s33] = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let i = from; i < to; i += 1) {
    const p0 = x[x0 + i] as number;
    const p1 = x[x1 + i] as number;
    const p2 = x[x2 + i] as number;
    const p3 = x[x3 + i] as number;
    const q0 = y[y0 + i] as number;
    const q1 = y[y1 + i] as number;
    const q2 = y[y2 + i] as number;
    const q3 = y[y3 + i] as number;
    s00 += p0 * q0;
    s01 += p0 * q1;
    s02 += p0 * q2;
    s03 += p0 * q3;
    s10 += p1 * q0;
    s11 += p1 * q1;
    s12 += p1 * q2;
    s13 += p1 * q3;
    s20 += p2 * q0;
    s21 += p2 * q1;
    s22 += p2 * q2;
    s23 += p2 * q3;
    s30 += p3 * q0;
    s31 += p3 * q1;
    s32 += p3 * q2;
    s33 += p3 * q3;
  }
  const sums = [s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33];
  for (let i = 0; i < 16; i += 1) {
    const at = (row + (i >> 2)) * b.rows + column + (i & 3);
    products[at] = (products[at] ?? 0) + (sums[i] ?? 0);
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

function multiplied({ up, down, scale }: Factors): Dense {
  const [out, columns] = [up.width, down.width];
  const data = new Float64Array(out * columns);
  for (let rank = 0; rank < up.rows; rank += 1) {
    for (let row = 0; row < out; row += 1) {
      const factor = up.data[rank * out + row] ?? 0;
      if (factor === 0) continue;
      const [to, from] = [row * columns, rank * columns];
      for (let i = 0; i < columns; i += 1)
        data[to + i] = (data[to + i] as number) + factor * (down.data[from + i] as number);
    }
  }
  return { kind: 'dense', out, columns, data, scale };
}

function kronecker({ first, second, scale }: Kron): Dense {
  const [x, y] = [toDense(first), toDense(second)];
  const [out, columns] = [x.out * y.out, x.columns * y.columns];
  const data = new Float64Array(out * columns);
  let at = 0;
  for (let row = 0; row < out; row += 1) {
    const [xStart, yStart] = [Math.floor(row / y.out) * x.columns, (row % y.out) * y.columns];
    for (let column = 0; column < x.columns; column += 1) {
      const factor = x.data[xStart + column] ?? 0;
      for (let i = 0; i < y.columns; i += 1) {
        data[at] = factor * (y.data[yStart + i] as number);
        at += 1;
      }
    }
  }
  return { kind: 'dense', out, columns, data, scale: scale * x.scale * y.scale };
}
