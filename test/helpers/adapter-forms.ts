// One module of each family of adapters, in each form that trainers write it, and what it does to the weight that it
// adapts: W' − W by its definition, one number at a time. `adapters.ts` writes and reads them.

export const [OUT, IN, RANK, ALPHA] = [6, 5, 3, 2];

/** Shapes by what stands behind the module's name. */
export type Shapes = { readonly [suffix: string]: readonly number[] };

/** Numbers of one tensor by their places; `base` is the weight that the module adapts. */
export type At = (suffix: string, ...place: readonly number[]) => number;

export type Kernel = readonly [y: number, x: number];

export interface Adapter {
  /** As inspect calls it. */
  readonly family: string;
  /** What is particular about it, where there are several of a family. */
  readonly form?: string;
  readonly kind: string;
  readonly rank: number | undefined;
  readonly shapes: Shapes;
  /** W' − W at [o, i, k]; `undefined` for what we have no formula of. */
  readonly delta: ((at: At, o: number, i: number, k: Kernel) => number) | undefined;
  /** What is added to the bias of output o, where something is. */
  readonly bias?: (at: At, o: number) => number;
  readonly kernel?: number;
  /** What the report says of α/r. */
  readonly scale?: number | undefined;
  /** Why no ΔW can be told from the file alone. */
  readonly unmeasured?: string;
  /** Tensors in place of kohya's module and suffixes. */
  readonly module?: string;
}

const sum = (count: number, term: (index: number) => number): number =>
  Array.from({ length: count }, (_, index) => term(index)).reduce((total, value) => total + value, 0);

const linear = { 'lora_up.weight': [OUT, RANK], 'lora_down.weight': [RANK, IN] };
const half = ALPHA / RANK;
const byAlpha = (at: At): number => at('alpha') / RANK;
const product = (at: At, o: number, i: number, up = 'lora_up.weight', down = 'lora_down.weight'): number =>
  sum(RANK, (r) => at(up, o, r) * at(down, r, i));
const lora = (at: At, o: number, i: number): number => byAlpha(at) * product(at, o, i);
const needsBase = 'depends on the base weight';
const hada = { hada_w1_a: [OUT, RANK], hada_w1_b: [RANK, IN], hada_w2_a: [OUT, RANK], hada_w2_b: [RANK, IN] };

/** The norm of a row, or of a column, of W + ΔW. */
const mergedRow = (at: At, o: number): number =>
  Math.sqrt(sum(IN, (i) => (at('base', o, i, 0, 0) + lora(at, o, i)) ** 2));
const mergedColumn = (at: At, i: number): number =>
  Math.sqrt(sum(OUT, (o) => (at('base', o, i, 0, 0) + lora(at, o, i)) ** 2));

/** Of a convolution, whose input channels are a column each. */
const convolution = (at: At, o: number, i: number, k: Kernel): number =>
  byAlpha(at) * sum(RANK, (r) => at('lora_up.weight', o, r, 0, 0) * at('lora_down.weight', r, i, ...k));
const mergedChannel = (at: At, i: number): number =>
  Math.sqrt(
    sum(OUT, (o) =>
      sum(
        9,
        (k) => (at('base', o, i, Math.floor(k / 3), k % 3) + convolution(at, o, i, [Math.floor(k / 3), k % 3])) ** 2,
      ),
    ),
  );

const kron = (at: At, o: number, i: number): number => at('lokr_w1', Math.floor(o / 3), i) * at('lokr_w2', o % 3, 0);

export const adapters: readonly Adapter[] = [
  { family: 'LoRA', kind: 'linear', rank: RANK, shapes: { alpha: [], ...linear }, scale: half, delta: lora },
  {
    family: 'LoRA',
    form: 'without alpha',
    kind: 'linear',
    rank: RANK,
    shapes: linear,
    scale: 1,
    // Chopping writes one.
    delta: (at, o, i) => (Number.isNaN(at('alpha')) ? 1 : byAlpha(at)) * product(at, o, i),
  },
  {
    family: 'LoRA',
    form: 'with a stray scalar and a bias',
    kind: 'linear',
    rank: RANK,
    shapes: { scalar: [], alpha: [1], ...linear, diff_b: [OUT] },
    scale: half * ALPHA,
    delta: (at, o, i) => at('scalar') * lora(at, o, i),
    bias: (at, o) => at('diff_b', o),
  },
  {
    family: 'LoRA',
    form: "with A1111's scale",
    kind: 'linear',
    rank: RANK,
    shapes: { scale: [], dyn_dim: [], ...linear },
    scale: ALPHA,
    delta: (at, o, i) => at('scale') * product(at, o, i),
  },
  {
    family: 'LoRA',
    form: 'of PEFT',
    kind: 'linear',
    rank: RANK,
    module: 'unet.mid_block.attentions.0.toy',
    shapes: { 'lora_B.weight': [OUT, RANK], 'lora_A.weight': [RANK, IN] },
    scale: 1,
    delta: (at, o, i) => product(at, o, i, 'lora_B.weight', 'lora_A.weight'),
  },
  {
    family: 'LoRA',
    form: 'of early diffusers',
    kind: 'linear',
    rank: RANK,
    module: 'unet.mid_block.attentions.0.toy',
    shapes: { 'lora.up.weight': [OUT, RANK], 'lora.down.weight': [RANK, IN] },
    scale: 1,
    delta: (at, o, i) => product(at, o, i, 'lora.up.weight', 'lora.down.weight'),
  },
  {
    family: 'LoRA',
    form: 'of a convolution',
    kind: 'conv3x3',
    rank: RANK,
    kernel: 3,
    shapes: { alpha: [], 'lora_up.weight': [OUT, RANK, 1, 1], 'lora_down.weight': [RANK, IN, 3, 3] },
    scale: half,
    delta: convolution,
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
      byAlpha(at) *
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
    form: 'by output rows',
    kind: 'linear',
    rank: RANK,
    shapes: { alpha: [], ...linear, dora_scale: [OUT, 1] },
    scale: half,
    unmeasured: needsBase,
    delta: (at, o, i) =>
      (at('dora_scale', o, 0) * (at('base', o, i, 0, 0) + lora(at, o, i))) / mergedRow(at, o) - at('base', o, i, 0, 0),
  },
  {
    family: 'DoRA (by input)',
    kind: 'linear',
    rank: RANK,
    shapes: { alpha: [], ...linear, dora_scale: [1, IN] },
    scale: half,
    unmeasured: needsBase,
    delta: (at, o, i) =>
      (at('dora_scale', 0, i) * (at('base', o, i, 0, 0) + lora(at, o, i))) / mergedColumn(at, i) -
      at('base', o, i, 0, 0),
  },
  {
    family: 'DoRA (by input)',
    form: 'of a convolution',
    kind: 'conv3x3',
    rank: RANK,
    kernel: 3,
    shapes: {
      alpha: [],
      'lora_up.weight': [OUT, RANK, 1, 1],
      'lora_down.weight': [RANK, IN, 3, 3],
      dora_scale: [1, IN, 1, 1],
    },
    scale: half,
    unmeasured: needsBase,
    delta: (at, o, i, k) =>
      (at('dora_scale', 0, i) * (at('base', o, i, ...k) + convolution(at, o, i, k))) / mergedChannel(at, i) -
      at('base', o, i, ...k),
  },
  {
    family: 'LoHa',
    kind: 'linear',
    rank: RANK,
    shapes: { alpha: [], ...hada },
    scale: half,
    delta: (at, o, i) =>
      byAlpha(at) * product(at, o, i, 'hada_w1_a', 'hada_w1_b') * product(at, o, i, 'hada_w2_a', 'hada_w2_b'),
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
        .reduce((a, b) => a * b, byAlpha(at)),
  },
  {
    family: 'LoKr',
    form: 'whole',
    kind: 'linear',
    rank: undefined,
    // 6 × 5 as 2·3 × 5·1. Without a rank, alpha means nothing.
    shapes: { alpha: [], lokr_w1: [2, 5], lokr_w2: [3, 1] },
    scale: 1,
    delta: kron,
  },
  {
    family: 'LoKr',
    form: 'in three parts',
    // Its flat factors hide the kernel of a module that SDXL does not have.
    kind: 'linear',
    rank: RANK,
    kernel: 3,
    shapes: { alpha: [], lokr_w1: [2, 1], lokr_w2_a: [3, RANK], lokr_w2_b: [RANK, 5 * 9] },
    scale: half,
    delta: (at, o, i, [y, x]) =>
      byAlpha(at) *
      at('lokr_w1', Math.floor(o / 3), 0) *
      sum(RANK, (r) => at('lokr_w2_a', o % 3, r) * at('lokr_w2_b', r, i * 9 + y * 3 + x)),
  },
  {
    family: 'LoKr',
    form: 'in four parts',
    kind: 'linear',
    rank: RANK,
    shapes: { alpha: [], lokr_w1_a: [2, RANK], lokr_w1_b: [RANK, 5], lokr_w2_a: [3, RANK], lokr_w2_b: [RANK, 1] },
    scale: half,
    delta: (at, o, i) =>
      byAlpha(at) *
      product(at, Math.floor(o / 3), i, 'lokr_w1_a', 'lokr_w1_b') *
      product(at, o % 3, 0, 'lokr_w2_a', 'lokr_w2_b'),
  },
  {
    family: 'LoKr (Tucker)',
    kind: 'conv3x3',
    rank: RANK,
    kernel: 3,
    shapes: { alpha: [], lokr_w1: [2, 5], lokr_t2: [RANK, RANK, 3, 3], lokr_w2_a: [RANK, 3], lokr_w2_b: [RANK, 1] },
    scale: half,
    delta: (at, o, i, k) =>
      byAlpha(at) *
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
    unmeasured: needsBase,
    delta: (at, o, i) =>
      byAlpha(at) *
      (sum(IN, (c) => at('base', o, c, 0, 0) * product(at, c, i, 'a1.weight', 'a2.weight')) +
        product(at, o, i, 'b1.weight', 'b2.weight')),
  },
  {
    family: 'GLoRA (old order)',
    kind: 'linear',
    rank: RANK,
    shapes: {
      alpha: [],
      'a1.weight': [RANK, IN],
      'a2.weight': [IN, RANK],
      'b1.weight': [RANK, IN],
      'b2.weight': [OUT, RANK],
    },
    scale: half,
    unmeasured: needsBase,
    delta: (at, o, i) =>
      byAlpha(at) *
      (sum(IN, (c) => at('base', o, c, 0, 0) * product(at, c, i, 'a2.weight', 'a1.weight')) +
        product(at, o, i, 'b2.weight', 'b1.weight')),
  },
  {
    family: 'GLoRA',
    form: 'of a convolution',
    // Its flat factors hide the kernel of a module that SDXL does not have.
    kind: 'linear',
    rank: RANK,
    kernel: 3,
    shapes: {
      alpha: [],
      'a1.weight': [IN, RANK, 1, 1],
      'a2.weight': [RANK, IN, 1, 1],
      'b1.weight': [OUT, RANK, 1, 1],
      'b2.weight': [RANK, IN, 3, 3],
    },
    scale: half,
    unmeasured: needsBase,
    delta: (at, o, i, k) =>
      byAlpha(at) *
      (sum(IN, (c) => at('base', o, c, ...k) * product(at, c, i, 'a1.weight', 'a2.weight')) +
        sum(RANK, (r) => at('b1.weight', o, r) * at('b2.weight', r, i, ...k))),
  },
  {
    family: 'full',
    kind: 'conv3x3',
    rank: undefined,
    kernel: 3,
    shapes: { diff: [OUT, IN, 3, 3], diff_b: [OUT] },
    delta: (at, o, i, k) => at('diff', o, i, ...k),
    bias: (at, o) => at('diff_b', o),
  },
  {
    family: 'norm',
    kind: 'other',
    rank: undefined,
    shapes: { w_norm: [OUT], b_norm: [OUT] },
    // The weight of a norm is one number for each channel.
    delta: (at, o, i) => (i === 0 ? at('w_norm', o) : 0),
    bias: (at, o) => at('b_norm', o),
  },
  {
    family: 'IA3',
    form: 'on outputs',
    kind: 'other',
    rank: undefined,
    shapes: { weight: [OUT], on_input: [] },
    unmeasured: needsBase,
    delta: (at, o, i) => at('base', o, i, 0, 0) * at('weight', o),
  },
  {
    family: 'IA3',
    form: 'on inputs',
    kind: 'other',
    rank: undefined,
    shapes: { weight: [IN], on_input: [] },
    unmeasured: needsBase,
    delta: (at, o, i) => at('base', o, i, 0, 0) * at('weight', i),
  },
  {
    family: 'OFT',
    kind: 'other',
    rank: undefined,
    shapes: { oft_blocks: [2, 3, 3], rescale: [OUT, 1], alpha: [] },
    unmeasured: 'turns the base weight, which is not measured',
    delta: undefined,
  },
  {
    family: 'BOFT',
    kind: 'other',
    rank: undefined,
    shapes: { oft_blocks: [2, 2, 3, 3], alpha: [] },
    unmeasured: 'turns the base weight, which is not measured',
    delta: undefined,
  },
];
