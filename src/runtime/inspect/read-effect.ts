// What a module does to the weight that it adapts, W' − W, also where that depends on W:
//
//   GLoRA  s·(W·a1·a2 + b1·b2)                a rank of 2r for linear weights
//   DoRA   m ∘ (W + ΔW) / ‖W + ΔW‖ − W        by output rows or by input columns, as the magnitudes m are shaped
//   IA³    W ∘ w                              by output rows, or by input columns where `on_input` says so
//
// With convolutions, a1·a2 mixes input channels and leaves the places of the kernel alone.

import { readMatrix } from '../adapters/read-product.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { asMatrix, type BaseMatrix, type BaseWeights } from './base-weights.ts';
import { columnsOf, type Delta, type Dense, rowsOf, toDense } from './delta.ts';
import { type ModuleFacts, oldGlora } from './module-facts.ts';
import { NoDelta, readDelta } from './read-delta.ts';

/** Throws `NoDelta`. */
export async function readEffect(file: SafetensorsFile, facts: ModuleFacts, base?: BaseWeights): Promise<Delta> {
  switch (facts.module.family) {
    case 'GLoRA':
      return glora(file, facts, await weightOf(facts, base));
    case 'DoRA':
      return dora(file, facts, await weightOf(facts, base));
    case 'IA3':
      return ia3(file, facts, await weightOf(facts, base));
    case 'OFT':
      throw new NoDelta('turns the base weight, which is not measured');
    case 'full':
      if (!facts.module.tensors.has('diff')) throw new NoDelta('adds to a bias alone');
      return readDelta(file, facts);
    default:
      return readDelta(file, facts);
  }
}

const NEEDS_BASE = 'depends on the base weight';
const MISFIT = 'has tensors that do not fit the base weight';

async function weightOf({ key }: ModuleFacts, base: BaseWeights | undefined): Promise<BaseMatrix> {
  if (base === undefined) throw new NoDelta(NEEDS_BASE);
  const stored = await base.read(key);
  const weight = stored && asMatrix(stored);
  if (weight === undefined) throw new NoDelta('depends on a weight that the base does not have');
  return weight;
}

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

async function need(file: SafetensorsFile, { module }: ModuleFacts, role: string): Promise<Matrix> {
  const found = await readMatrix(file, module.tensors.get(role));
  if (found === undefined) throw new NoDelta(`lacks "${role}"`);
  return found;
}

async function glora(file: SafetensorsFile, facts: ModuleFacts, weight: BaseMatrix): Promise<Delta> {
  const { module, scale = 1 } = facts;
  const isOld = oldGlora((role) =>
    module.tensors.has(role) ? file.tensor(module.tensors.get(role) ?? '').shape : undefined,
  );
  const [first, second] = isOld ? ['2', '1'] : ['1', '2'];
  const [mixIn, mixOut] = [await need(file, facts, `a${first}`), await need(file, facts, `a${second}`)];
  const [up, down] = [await need(file, facts, `b${first}`), await need(file, facts, `b${second}`)];
  const { out, columns, area } = weight;
  const inputs = columns / area;
  const fits =
    mixIn.rows === inputs &&
    mixOut.columns === inputs &&
    mixIn.columns === mixOut.rows &&
    up.rows === out &&
    down.columns === columns &&
    up.columns === down.rows;
  if (!fits) throw new NoDelta(MISFIT);
  // W·a1 has a row for each output and place of the kernel.
  const mixed = multiply(byPlace(weight), mixIn);
  if (area === 1) {
    return {
      kind: 'factors',
      up: columnsOf(beside(mixed, up), out, mixed.columns + up.columns),
      down: rowsOf(below(mixOut, down), mixOut.rows + down.rows, columns),
      scale,
    };
  }
  const whole = multiply(mixed, mixOut);
  const direct = multiply(up, down);
  const data = direct.data.map((value, at) => {
    const [o, column] = [Math.floor(at / columns), at % columns];
    const [input, place] = [Math.floor(column / area), column % area];
    return value + (whole.data[(o * area + place) * inputs + input] as number);
  });
  return { kind: 'dense', out, columns, data, scale };
}

/** Rows are outputs and places of the kernel, columns inputs. */
function byPlace({ out, columns, area, data }: BaseMatrix): Matrix {
  if (area === 1) return { rows: out, columns, data };
  const inputs = columns / area;
  const turned = new Float64Array(data.length);
  for (let o = 0; o < out; o += 1) {
    for (let input = 0; input < inputs; input += 1) {
      for (let place = 0; place < area; place += 1)
        turned[(o * area + place) * inputs + input] = data[o * columns + input * area + place] as number;
    }
  }
  return { rows: out * area, columns: inputs, data: turned };
}

async function dora(file: SafetensorsFile, facts: ModuleFacts, weight: BaseMatrix): Promise<Dense> {
  const delta = toDense(await readDelta(file, facts));
  const { out, columns, area } = weight;
  if (delta.out !== out || delta.columns !== columns) throw new NoDelta(MISFIT);
  const magnitudes = await need(file, facts, 'dora_scale');
  const name = facts.module.tensors.get('dora_scale') ?? '';
  // PEFT's [1, out, 1, 1] looks like an input axis, and never is one.
  const byOutput = name.includes('magnitude_vector') || file.tensor(name).shape[0] === out;
  const count = byOutput ? out : columns / area;
  if (magnitudes.data.length !== count) throw new NoDelta(MISFIT);
  const groupOf = (at: number): number => (byOutput ? Math.floor(at / columns) : Math.floor((at % columns) / area));
  const merged = weight.data.map((value, at) => value + delta.scale * (delta.data[at] as number));
  const squares = new Float64Array(count);
  for (let at = 0; at < merged.length; at += 1) {
    const group = groupOf(at);
    squares[group] = (squares[group] as number) + (merged[at] as number) ** 2;
  }
  const factors = squares.map((square, group) =>
    square === 0 ? 0 : (magnitudes.data[group] as number) / Math.sqrt(square),
  );
  const data = merged.map((value, at) => value * (factors[groupOf(at)] as number) - (weight.data[at] as number));
  return { kind: 'dense', out, columns, data, scale: 1 };
}

async function ia3(
  file: SafetensorsFile,
  facts: ModuleFacts,
  { out, columns, area, data }: BaseMatrix,
): Promise<Dense> {
  const [factors, onInput] = [await need(file, facts, 'weight'), await need(file, facts, 'on_input')];
  const isInput = (onInput.data[0] ?? 0) !== 0;
  if (factors.data.length !== (isInput ? columns / area : out)) throw new NoDelta(MISFIT);
  const factorOf = (at: number): number =>
    factors.data[isInput ? Math.floor((at % columns) / area) : Math.floor(at / columns)] as number;
  return { kind: 'dense', out, columns, data: data.map((value, at) => value * factorOf(at)), scale: 1 };
}

function multiply(a: Matrix, b: Matrix): Matrix {
  const data = new Float64Array(a.rows * b.columns);
  for (let row = 0; row < a.rows; row += 1) {
    for (let inner = 0; inner < a.columns; inner += 1) {
      const factor = a.data[row * a.columns + inner] as number;
      const [to, from] = [row * b.columns, inner * b.columns];
      for (let i = 0; i < b.columns; i += 1)
        data[to + i] = (data[to + i] as number) + factor * (b.data[from + i] as number);
    }
  }
  return { rows: a.rows, columns: b.columns, data };
}

function beside(a: Matrix, b: Matrix): Float64Array {
  const width = a.columns + b.columns;
  const data = new Float64Array(a.rows * width);
  for (let row = 0; row < a.rows; row += 1) {
    data.set(a.data.subarray(row * a.columns, (row + 1) * a.columns), row * width);
    data.set(b.data.subarray(row * b.columns, (row + 1) * b.columns), row * width + a.columns);
  }
  return data;
}

function below(a: Matrix, b: Matrix): Float64Array {
  const data = new Float64Array(a.data.length + b.data.length);
  data.set(a.data);
  data.set(b.data, a.data.length);
  return data;
}
