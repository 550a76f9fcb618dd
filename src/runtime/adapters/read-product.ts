// ΔW of a module of any family, from its tensors, before its scale. What needs the base weight has none of its own.

import { toFloat64 } from '../safetensors/convert.ts';
import type { Dtype } from '../safetensors/dtype.ts';
import type { LoraModule } from '../sdxl/lora.ts';
import type { FactorPair, Matrix, Product, WholeMatrix } from './product.ts';

/** Why a module has no ΔW to be worked with: the words that follow its name. */
export class NoDelta extends Error {}

/** Where a module's tensors are: a file, or what is going to be one. */
export interface TensorSource {
  tensor(name: string): { readonly dtype: Dtype; readonly shape: readonly number[] };
  bytesOf(name: string): Promise<Uint8Array<ArrayBuffer>>;
}

/** A tensor as a matrix: rows, and all else as columns. */
interface Unfolded extends Matrix {
  readonly shape: readonly number[];
}

type Read = (role: string) => Promise<Unfolded | undefined>;
type Need = (role: string) => Promise<Unfolded>;

/** Throws `NoDelta`. */
export async function readProduct(source: TensorSource, module: LoraModule): Promise<Product> {
  const read: Read = (role) => readMatrix(source, module.tensors.get(role));
  const need: Need = async (role) => {
    const found = await read(role);
    if (found === undefined) throw new NoDelta(`lacks "${role}"`);
    return found;
  };
  switch (module.family) {
    case 'LoRA':
    case 'DoRA':
      return pair(await need('up'), folded(await read('mid'), await need('down')));
    case 'LoHa':
      return hadamard(await hadamardFactor(read, need, '1'), await hadamardFactor(read, need, '2'));
    case 'LoKr':
      return {
        kind: 'kron',
        first: await kroneckerFactor(read, need, '1'),
        second: await kroneckerFactor(read, need, '2'),
      };
    case 'full':
      return { kind: 'whole', whole: await need('diff') };
    case 'norm':
      return { kind: 'whole', whole: await need('w_norm') };
    case 'GLoRA':
    case 'OFT':
    case 'IA3':
      throw new NoDelta('depends on the base weight');
    default:
      throw new NoDelta('is of no kind whose effect is known');
  }
}

/** A tensor as a matrix of doubles; `undefined` where there is no such tensor. Throws `NoDelta` for numbers of an odd kind. */
export async function readMatrix(source: TensorSource, tensor: string | undefined): Promise<Unfolded | undefined> {
  if (tensor === undefined) return undefined;
  const { shape, dtype } = source.tensor(tensor);
  const data = toFloat64(await source.bytesOf(tensor), dtype);
  if (data === undefined) throw new NoDelta(`is stored as ${dtype}`);
  const [rows = 1] = shape;
  return { rows, columns: rows === 0 ? 0 : data.length / rows, shape, data };
}

function pair(up: Matrix, down: Matrix): FactorPair {
  if (up.columns !== down.rows) throw new NoDelta('has factors that do not fit each other');
  return { kind: 'factors', up, down };
}

/** Tucker's middle, drawn into `down`: down'[i, c, k] = Σ_j mid[i, j, k] · down[j, c]. */
function folded(mid: Unfolded | undefined, down: Unfolded): Matrix {
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
  return { rows: outer, columns: channels * area, data };
}

/** One of the two products that LoHa multiplies place by place. With a core, the first factor lies transposed. */
async function hadamardFactor(read: Read, need: Need, which: '1' | '2'): Promise<FactorPair> {
  const [a, b, core] = [await need(`hada_w${which}_a`), await need(`hada_w${which}_b`), await read(`hada_t${which}`)];
  return pair(core === undefined ? a : transposed(a), folded(core, b));
}

function hadamard(first: FactorPair, second: FactorPair): Product {
  if (first.up.rows !== second.up.rows || first.down.columns !== second.down.columns) {
    throw new NoDelta('has factors that do not fit each other');
  }
  return { kind: 'hadamard', first, second };
}

async function kroneckerFactor(read: Read, need: Need, which: '1' | '2'): Promise<FactorPair | WholeMatrix> {
  const whole = await read(`lokr_w${which}`);
  if (whole !== undefined) return { kind: 'whole', whole };
  const [a, b] = [await need(`lokr_w${which}_a`), await need(`lokr_w${which}_b`)];
  const core = which === '2' ? await read('lokr_t2') : undefined;
  return pair(core === undefined ? a : transposed(a), folded(core, b));
}

function transposed({ rows, columns, data }: Matrix): Matrix {
  const turned = new Float64Array(data.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) turned[column * rows + row] = data[row * columns + column] ?? 0;
  }
  return { rows: columns, columns: rows, data: turned };
}
