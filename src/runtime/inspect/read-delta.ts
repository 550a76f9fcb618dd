// ΔW of a module of any family, from its tensors. What needs the base weight has none of its own.

import { toFloat64 } from '../safetensors/convert.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { columnsOf, type Delta, type Dense, type Factors, rowsOf, toDense } from './delta.ts';
import type { ModuleFacts } from './module-facts.ts';

/** Why a module has no ΔW to be measured: the words that follow its name. */
export class NoDelta extends Error {}

interface Matrix {
  /** Rows of the tensor, and all else as columns. */
  readonly rows: number;
  readonly columns: number;
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Throws `NoDelta`. */
export async function readDelta(file: SafetensorsFile, facts: ModuleFacts): Promise<Delta> {
  const { module, scale = 1 } = facts;
  const read = (role: string): Promise<Matrix | undefined> => readMatrix(file, module.tensors.get(role));
  const need = async (role: string): Promise<Matrix> => {
    const found = await read(role);
    if (found === undefined) throw new NoDelta(`lacks "${role}"`);
    return found;
  };
  switch (module.family) {
    case 'LoRA':
    case 'DoRA':
      return factors(await need('up'), folded(await read('mid'), await need('down')), scale);
    case 'LoHa':
      return hadamard(await loha(read, need, '1'), await loha(read, need, '2'), scale);
    case 'LoKr': {
      const [first, second] = [await kronFactor(read, need, '1'), await kronFactor(read, need, '2')];
      return { kind: 'kron', first, second, scale };
    }
    case 'full':
      return dense(await need('diff'));
    case 'norm':
      return dense(await need('w_norm'));
    case 'GLoRA':
    case 'OFT':
    case 'IA3':
      throw new NoDelta('depends on the base weight');
    default:
      throw new NoDelta('is of no kind whose effect is known');
  }
}

async function readMatrix(file: SafetensorsFile, tensor: string | undefined): Promise<Matrix | undefined> {
  if (tensor === undefined) return undefined;
  const { shape, dtype } = file.tensor(tensor);
  const data = toFloat64(await file.bytesOf(tensor), dtype);
  if (data === undefined) throw new NoDelta(`is stored as ${dtype}`);
  const [rows = 1] = shape;
  return { rows, columns: rows === 0 ? 0 : data.length / rows, shape, data };
}

function factors(up: Matrix, down: Matrix, scale: number): Factors {
  if (up.columns !== down.rows) throw new NoDelta('has factors that do not fit each other');
  return {
    kind: 'factors',
    up: columnsOf(up.data, up.rows, up.columns),
    down: rowsOf(down.data, down.rows, down.columns),
    scale,
  };
}

function dense({ rows, columns, data }: Matrix): Dense {
  return { kind: 'dense', out: rows, columns, data, scale: 1 };
}

/** Tucker's middle, drawn into `down`: down'[i, c, k] = Σ_j mid[i, j, k] · down[j, c]. */
function folded(mid: Matrix | undefined, down: Matrix): Matrix {
  if (mid === undefined) return down;
  const [outer = 0, middle = 0, ...kernel] = mid.shape;
  if (middle !== down.rows) throw new NoDelta('has factors that do not fit each other');
  const area = kernel.reduce((product, side) => product * side, 1);
  const channels = down.columns;
  const data = new Float64Array(outer * channels * area);
  for (let i = 0; i < outer; i += 1) {
    for (let j = 0; j < middle; j += 1) {
      for (let k = 0; k < area; k += 1) {
        const factor = mid.data[(i * middle + j) * area + k] ?? 0;
        for (let c = 0; c < channels; c += 1) {
          const at = (i * channels + c) * area + k;
          data[at] = (data[at] as number) + factor * (down.data[j * channels + c] as number);
        }
      }
    }
  }
  return { rows: outer, columns: channels * area, shape: [outer, channels, ...kernel], data };
}

type Read = (role: string) => Promise<Matrix | undefined>;
type Need = (role: string) => Promise<Matrix>;

/** One of the two products that LoHa multiplies place by place. With a core, the first factor lies transposed. */
async function loha(read: Read, need: Need, which: '1' | '2'): Promise<Factors> {
  const [a, b, core] = [await need(`hada_w${which}_a`), await need(`hada_w${which}_b`), await read(`hada_t${which}`)];
  return factors(core === undefined ? a : transposed(a), folded(core, b), 1);
}

async function kronFactor(read: Read, need: Need, which: '1' | '2'): Promise<Factors | Dense> {
  const whole = await read(`lokr_w${which}`);
  if (whole !== undefined) return dense(whole);
  const [a, b] = [await need(`lokr_w${which}_a`), await need(`lokr_w${which}_b`)];
  const core = which === '2' ? await read('lokr_t2') : undefined;
  return factors(core === undefined ? a : transposed(a), folded(core, b), 1);
}

function transposed({ rows, columns, data }: Matrix): Matrix {
  const turned = new Float64Array(data.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) turned[column * rows + row] = data[row * columns + column] ?? 0;
  }
  return { rows: columns, columns: rows, shape: [columns, rows], data: turned };
}

/**
 * The product of two matrices of rank r place by place has r² factors: each row of one with each of the other.
 * Where those would be more numbers than the product itself, it is formed.
 */
function hadamard(first: Factors, second: Factors, scale: number): Factors | Dense {
  if (first.up.width !== second.up.width || first.down.width !== second.down.width) {
    throw new NoDelta('has factors that do not fit each other');
  }
  if (first.up.rows * second.up.rows > Math.min(first.up.width, first.down.width)) {
    const [a, b] = [toDense(first), toDense(second)];
    return { ...a, data: a.data.map((value, i) => value * (b.data[i] as number)), scale };
  }
  return { kind: 'factors', up: pairs(first.up, second.up), down: pairs(first.down, second.down), scale };
}

function pairs(a: Factors['up'], b: Factors['up']): Factors['up'] {
  const [rows, { width }] = [a.rows * b.rows, a];
  const data = new Float64Array(rows * width);
  let at = 0;
  for (let row = 0; row < a.rows; row += 1) {
    for (let other = 0; other < b.rows; other += 1) {
      for (let i = 0; i < width; i += 1) {
        data[at] = (a.data[row * width + i] as number) * (b.data[other * width + i] as number);
        at += 1;
      }
    }
  }
  return { rows, width, data };
}
