// One module of each family, with the shapes that its trainer writes, and its ΔW worked out one number at a time.

import { type LoraReport, reportLora } from '../../../src/runtime/inspect/report.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { randomNumbers, tensor } from '../stages/lora-files.ts';

export const [OUT, IN, RANK, ALPHA] = [6, 5, 3, 2];

/** Shapes by what stands behind the module's name. */
export type Shapes = { readonly [suffix: string]: readonly number[] };

/** Numbers of one tensor by their places. */
export type At = (suffix: string, ...place: readonly number[]) => number;

export interface FamilyExample {
  readonly family: string;
  readonly kind: string;
  readonly rank: number | undefined;
  readonly shapes: Shapes;
  /** ΔW[o, i, k], unscaled where `alpha` scales it; `undefined` for families without a ΔW of their own. */
  readonly delta: ((at: At, o: number, i: number, k: readonly [number, number]) => number) | undefined;
  readonly kernel?: number;
  readonly scale?: number | undefined;
}

const sum = (count: number, term: (index: number) => number): number =>
  Array.from({ length: count }, (_, index) => term(index)).reduce((total, value) => total + value, 0);

const linear = { 'lora_up.weight': [OUT, RANK], 'lora_down.weight': [RANK, IN] };
const half = ALPHA / RANK;
const hada = { hada_w1_a: [OUT, RANK], hada_w1_b: [RANK, IN], hada_w2_a: [OUT, RANK], hada_w2_b: [RANK, IN] };

export const families: readonly FamilyExample[] = [
  {
    family: 'LoRA',
    kind: 'linear',
    rank: RANK,
    shapes: { alpha: [], ...linear },
    scale: half,
    delta: (at, o, i) => sum(RANK, (r) => at('lora_up.weight', o, r) * at('lora_down.weight', r, i)),
  },
  {
    family: 'LoRA',
    kind: 'linear',
    rank: RANK,
    shapes: { scalar: [], alpha: [1], ...linear },
    scale: half * ALPHA,
    delta: (at, o, i) => sum(RANK, (r) => at('lora_up.weight', o, r) * at('lora_down.weight', r, i)),
  },
  {
    family: 'LoRA',
    kind: 'conv3x3',
    rank: RANK,
    kernel: 3,
    shapes: { alpha: [], 'lora_up.weight': [OUT, RANK, 1, 1], 'lora_down.weight': [RANK, IN, 3, 3] },
    scale: half,
    delta: (at, o, i, k) => sum(RANK, (r) => at('lora_up.weight', o, r, 0, 0) * at('lora_down.weight', r, i, ...k)),
  },
  {
    family: 'LoRA (Tucker)',
    kind: 'conv3x3',
    rank: RANK,
    kernel: 3,
    shapes: {
      alpha: [],
      'lora_up.weight': [OUT, RANK, 1, 1],
      'lora_mid.weight': [RANK, RANK, 3, 3],
      'lora_down.weight': [RANK, IN, 1, 1],
    },
    scale: half,
    delta: (at, o, i, k) =>
      sum(RANK, (r) =>
        sum(
          RANK,
          (q) =>
            at('lora_up.weight', o, r, 0, 0) * at('lora_mid.weight', r, q, ...k) * at('lora_down.weight', q, i, 0, 0),
        ),
      ),
  },
  {
    family: 'DoRA',
    kind: 'linear',
    rank: RANK,
    shapes: { alpha: [], ...linear, dora_scale: [OUT, 1] },
    scale: half,
    delta: (at, o, i) => sum(RANK, (r) => at('lora_up.weight', o, r) * at('lora_down.weight', r, i)),
  },
  {
    family: 'LoHa',
    kind: 'linear',
    rank: RANK,
    shapes: { alpha: [], ...hada },
    scale: half,
    delta: (at, o, i) =>
      sum(RANK, (r) => at('hada_w1_a', o, r) * at('hada_w1_b', r, i)) *
      sum(RANK, (r) => at('hada_w2_a', o, r) * at('hada_w2_b', r, i)),
  },
  {
    family: 'LoHa (Tucker)',
    kind: 'conv3x3',
    rank: RANK,
    kernel: 3,
    shapes: {
      alpha: [],
      hada_t1: [RANK, RANK, 3, 3],
      hada_w1_a: [RANK, OUT],
      hada_w1_b: [RANK, IN],
      hada_t2: [RANK, RANK, 3, 3],
      hada_w2_a: [RANK, OUT],
      hada_w2_b: [RANK, IN],
    },
    scale: half,
    delta: (at, o, i, k) =>
      [1, 2]
        .map((n) =>
          sum(RANK, (p) =>
            sum(RANK, (q) => at(`hada_t${n}`, p, q, ...k) * at(`hada_w${n}_a`, p, o) * at(`hada_w${n}_b`, q, i)),
          ),
        )
        .reduce((a, b) => a * b),
  },
  {
    family: 'LoKr',
    kind: 'linear',
    rank: undefined,
    // 6 × 5 as 2·3 × 5·1.
    shapes: { alpha: [], lokr_w1: [2, 5], lokr_w2: [3, 1] },
    scale: 1,
    delta: (at, o, i) => at('lokr_w1', Math.floor(o / 3), i) * at('lokr_w2', o % 3, 0),
  },
  {
    family: 'LoKr',
    // Its flat factors hide the kernel of a module that SDXL does not have.
    kind: 'linear',
    rank: RANK,
    kernel: 3,
    shapes: { alpha: [], lokr_w1: [2, 1], lokr_w2_a: [3, RANK], lokr_w2_b: [RANK, 5 * 9] },
    scale: half,
    delta: (at, o, i, [y, x]) =>
      at('lokr_w1', Math.floor(o / 3), 0) *
      sum(RANK, (r) => at('lokr_w2_a', o % 3, r) * at('lokr_w2_b', r, i * 9 + y * 3 + x)),
  },
  {
    family: 'LoKr (Tucker)',
    kind: 'conv3x3',
    rank: RANK,
    kernel: 3,
    shapes: { alpha: [], lokr_w1: [2, 5], lokr_t2: [RANK, RANK, 3, 3], lokr_w2_a: [RANK, 3], lokr_w2_b: [RANK, 1] },
    scale: half,
    delta: (at, o, i, k) =>
      at('lokr_w1', Math.floor(o / 3), i) *
      sum(RANK, (p) => sum(RANK, (q) => at('lokr_t2', p, q, ...k) * at('lokr_w2_a', p, o % 3) * at('lokr_w2_b', q, 0))),
  },
  {
    family: 'GLoRA',
    kind: 'linear',
    rank: RANK,
    shapes: {
      alpha: [],
      'a1.weight': [IN, RANK],
      'a2.weight': [RANK, IN],
      'b1.weight': [OUT, RANK],
      'b2.weight': [RANK, IN],
    },
    scale: half,
    delta: undefined,
  },
  {
    family: 'full',
    kind: 'conv3x3',
    rank: undefined,
    kernel: 3,
    shapes: { diff: [OUT, IN, 3, 3], diff_b: [OUT] },
    delta: (at, o, i, k) => at('diff', o, i, ...k),
  },
  { family: 'norm', kind: 'other', rank: undefined, shapes: { w_norm: [OUT], b_norm: [OUT] }, delta: undefined },
  { family: 'OFT', kind: 'other', rank: undefined, shapes: { oft_blocks: [2, 3, 3], alpha: [] }, delta: undefined },
  { family: 'BOFT', kind: 'other', rank: undefined, shapes: { oft_blocks: [2, 2, 3, 3], alpha: [] }, delta: undefined },
  { family: 'IA3', kind: 'other', rank: undefined, shapes: { weight: [OUT], on_input: [] }, delta: undefined },
];

const MODULE = 'lora_unet_middle_block_1_toy';

/** A file with that one module, and the norm that its ΔW has by definition. */
export async function writeFamily(path: string, example: FamilyExample): Promise<number> {
  const { tensors, delta } = makeFamily(example, MODULE);
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
  return Math.sqrt(delta.reduce((sum, value) => sum + value * value, 0));
}

/** The tensors of that one module, and its ΔW as out × in·k² by definition: zeros where there is none. */
export function makeFamily(
  { shapes, delta, kernel = 1, scale = 1 }: FamilyExample,
  module: string,
): { readonly tensors: readonly TensorToWrite[]; readonly at: At; readonly delta: Float64Array } {
  const values = new Map<string, { shape: readonly number[]; numbers: readonly number[] }>();
  const tensors: TensorToWrite[] = [];
  const random = randomNumbers(7);
  for (const [suffix, shape] of Object.entries(shapes)) {
    const isScalar = suffix === 'alpha' || suffix === 'scalar';
    const length = shape.reduce((product, size) => product * size, 1);
    const numbers = Array.from({ length }, () => (isScalar ? ALPHA : Math.fround(random())));
    values.set(suffix, { shape, numbers });
    tensors.push(tensor(`${module}.${suffix}`, 'F32', shape, numbers));
  }
  const at: At = (suffix, ...place) => {
    const { shape = [], numbers = [] } = values.get(suffix) ?? {};
    return numbers[place.reduce((index, step, axis) => index * (shape[axis] ?? 1) + step, 0)] ?? Number.NaN;
  };
  const product = new Float64Array(OUT * IN * kernel * kernel);
  for (const [index] of product.entries()) {
    const [k, row] = [index % kernel ** 2, Math.floor(index / kernel ** 2)];
    const value = delta?.(at, Math.floor(row / IN), row % IN, [Math.floor(k / kernel), k % kernel]) ?? 0;
    product[index] = value * scale;
  }
  return { tensors, at, delta: product };
}

export async function reportOf(path: string): Promise<LoraReport> {
  await using file = await SafetensorsFile.open(path);
  return reportLora(file);
}
