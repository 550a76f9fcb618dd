// What can be told about a module from the shapes of its tensors and its few scalars: kind, size, rank, scale.
// Each family says these things in its own way.

import { toFloat64 } from '../safetensors/convert.ts';
import { elementsIn } from '../safetensors/dtype.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import type { AdapterSettings } from '../sdxl/adapter-settings.ts';
import type { LoraModule } from '../sdxl/lora.ts';
import type { LoraTarget } from '../sdxl/modules.ts';
import { kohyaName, type ModuleName, readModuleName } from '../sdxl/names.ts';

/** `conv`: a convolution with another kernel. `other`: no weight of a layer is adapted, as with norms. */
export type Kind = 'linear' | 'conv1x1' | 'conv3x3' | 'conv' | 'other';

export interface ModuleFacts {
  readonly module: LoraModule;
  /** `LoRA`, `LoRA (Tucker)`, `LoHa` … */
  readonly family: string;
  readonly name: ModuleName | undefined;
  /** The name by which modules of two files are paired. */
  readonly key: string;
  /** `OUT01`, `TE1`, `REST`; `?` for a module that belongs to no part of a network that we know. */
  readonly place: string;
  readonly kind: Kind;
  /** Of the adapted weight, flattened: out × in·k². `undefined` where shapes do not say. */
  readonly out: number | undefined;
  readonly columns: number | undefined;
  /** Sides of the kernel, none for a linear weight; `undefined` where a flattened factor hides them. */
  readonly kernel: readonly number[] | undefined;
  readonly rank: number | undefined;
  /** As stored. */
  readonly alpha: number | undefined;
  /** What the product of the factors is multiplied by; `undefined` for families without such a factor. */
  readonly scale: number | undefined;
  readonly tensors: number;
  readonly sizeBytes: number;
  /** What is wrong with the module's own tensors. */
  readonly problems: readonly string[];
}

export interface FactsOptions {
  /** Shapes and sizes of the tensors: a file, or what is going to be one. */
  readonly file: Pick<SafetensorsFile, 'tensor'>;
  readonly scalars: ReadonlyMap<string, number>;
  readonly settings: AdapterSettings | undefined;
  readonly targets: ReadonlyMap<string, LoraTarget>;
}

export function moduleFacts(module: LoraModule, { file, scalars, settings, targets }: FactsOptions): ModuleFacts {
  const name = readModuleName(module.name);
  const key = name === undefined ? module.name : kohyaName(name);
  const shape = (role: string): readonly number[] | undefined => {
    const tensor = module.tensors.get(role);
    return tensor === undefined ? undefined : file.tensor(tensor).shape;
  };
  const scalar = (role: string): number | undefined => scalars.get(module.tensors.get(role) ?? '');
  const extent = extentOf(module, shape);
  const rank = rankOf(module, shape);
  const alpha = scalar('alpha');
  const infos = [...module.tensors.values()].map((tensor) => file.tensor(tensor));
  return {
    module,
    family: familyLabel(module, shape),
    name,
    key,
    place: module.block ?? '?',
    kind: kindOf(module, extent, targets.get(key)),
    out: extent?.out,
    columns: extent?.columns,
    kernel: extent?.kernel,
    rank,
    alpha,
    scale: scaleOf({ module, rank, alpha, scale: scalar('scale'), scalar: scalar('scalar'), settings }),
    tensors: infos.length,
    sizeBytes: infos.reduce((sum, { begin, end }) => sum + end - begin, 0),
    problems: problemsOf(module, shape, scalars),
  };
}

/** The values of all tensors that hold one number and say a scale. They are many and small: one read each, at once. */
export function readScalars(file: SafetensorsFile, modules: readonly LoraModule[]): ReadonlyMap<string, number> {
  const names = modules.flatMap(({ tensors }) =>
    ['alpha', 'scale', 'scalar'].flatMap((role) => tensors.get(role) ?? []),
  );
  const single = names.map((name) => file.tensor(name)).filter(({ shape }) => elementsIn(shape) === 1);
  const values = new Map<string, number>();
  for (const info of single) {
    const [value] = toFloat64(file.bytesNow(info), info.dtype) ?? [];
    if (value !== undefined) values.set(info.name, value);
  }
  return values;
}

type ShapeOf = (role: string) => readonly number[] | undefined;

interface Extent {
  readonly out: number;
  readonly columns: number;
  /** Sides of the kernel; empty for linear weights, `undefined` where a flattened factor hides it. */
  readonly kernel: readonly number[] | undefined;
}

function extentOf({ family }: LoraModule, shape: ShapeOf): Extent | undefined {
  switch (family) {
    case 'LoRA':
    case 'DoRA':
      return factorExtent(shape('up'), shape('down'), shape('mid'));
    case 'unknown':
      return shape('up') && shape('down') && factorExtent(shape('up'), shape('down'), shape('mid'));
    case 'LoHa': {
      const [a, b, core] = [shape('hada_w1_a'), shape('hada_w1_b'), shape('hada_t1')];
      if (a === undefined || b === undefined) return undefined;
      const kernel = core?.slice(2);
      return kernel === undefined
        ? { out: a[0] ?? 0, columns: b[1] ?? 0, kernel: undefined }
        : { out: a[1] ?? 0, columns: (b[1] ?? 0) * product(kernel), kernel };
    }
    case 'LoKr': {
      const first = kronExtent(shape('lokr_w1'), shape('lokr_w1_a'), shape('lokr_w1_b'), undefined);
      const second = kronExtent(shape('lokr_w2'), shape('lokr_w2_a'), shape('lokr_w2_b'), shape('lokr_t2'));
      if (first === undefined || second === undefined) return undefined;
      return { out: first.out * second.out, columns: first.columns * second.columns, kernel: second.kernel };
    }
    case 'GLoRA': {
      const factors = gloraFactors(shape);
      return factors && { out: factors.out, columns: factors.columns, kernel: undefined };
    }
    case 'full': {
      const diff = shape('diff');
      if (diff === undefined || diff.length < 2) return undefined;
      return { out: diff[0] ?? 0, columns: product(diff.slice(1)), kernel: diff.slice(2) };
    }
    default:
      return undefined;
  }
}

function factorExtent(up?: readonly number[], down?: readonly number[], mid?: readonly number[]): Extent | undefined {
  if (up === undefined || down === undefined) return undefined;
  const kernel = (mid ?? down).slice(2);
  return { out: up[0] ?? 0, columns: (down[1] ?? 0) * product(kernel), kernel };
}

function kronExtent(
  whole?: readonly number[],
  a?: readonly number[],
  b?: readonly number[],
  core?: readonly number[],
): Extent | undefined {
  if (whole !== undefined) return { out: whole[0] ?? 0, columns: product(whole.slice(1)), kernel: whole.slice(2) };
  if (a === undefined || b === undefined) return undefined;
  // Tucker: the first factor is transposed, and the core carries the kernel.
  if (core !== undefined) {
    const kernel = core.slice(2);
    return { out: a[1] ?? 0, columns: (b[1] ?? 0) * product(kernel), kernel };
  }
  return { out: a[0] ?? 0, columns: product(b.slice(1)), kernel: b.length > 2 ? b.slice(2) : undefined };
}

/** Old files of GLoRA have 1 and 2 exchanged. Where both readings fit, the rank is the smaller side. */
export function oldGlora(shape: ShapeOf): boolean {
  const [first = [], second = []] = [shape('b1'), shape('b2')];
  const [now = 0, before = 0] = [second[0], first[0]];
  return first[1] !== now || (second[1] === before && before < now);
}

function gloraFactors(
  shape: ShapeOf,
): { readonly out: number; readonly columns: number; readonly rank: number } | undefined {
  const [first, second] = [shape('b1'), shape('b2')];
  if (first === undefined || second === undefined) return undefined;
  const [up, down] = oldGlora(shape) ? [second, first] : [first, second];
  return { out: up[0] ?? 0, columns: product(down.slice(1)), rank: down[0] ?? 0 };
}

function rankOf({ family }: LoraModule, shape: ShapeOf): number | undefined {
  switch (family) {
    case 'LoRA':
    case 'DoRA':
    case 'unknown':
      return shape('down')?.[0];
    case 'LoHa':
      return shape('hada_w1_b')?.[0];
    case 'LoKr':
      return (shape('lokr_w1_b') ?? shape('lokr_w2_b'))?.[0];
    case 'GLoRA':
      return gloraFactors(shape)?.rank;
    default:
      return undefined;
  }
}

function kindOf({ family }: LoraModule, extent: Extent | undefined, target: LoraTarget | undefined): Kind {
  if (extent === undefined) return family === 'OFT' || family === 'IA3' ? (target?.kind ?? 'other') : 'other';
  const { kernel } = extent;
  if (kernel === undefined) {
    if (target === undefined) return 'linear';
    const area = target.kind === 'conv3x3' ? 9 : 1;
    return target.in * area === extent.columns ? target.kind : 'linear';
  }
  if (kernel.length === 0) return 'linear';
  if (kernel.every((side) => side === 1)) return 'conv1x1';
  return kernel.length === 2 && kernel.every((side) => side === 3) ? 'conv3x3' : 'conv';
}

function scaleOf(options: {
  readonly module: LoraModule;
  readonly rank: number | undefined;
  readonly alpha: number | undefined;
  readonly scale: number | undefined;
  readonly scalar: number | undefined;
  readonly settings: AdapterSettings | undefined;
}): number | undefined {
  const { module, rank, alpha, scale, scalar = 1, settings } = options;
  const { family, isPeft, name } = module;
  if (family === 'LoKr' && rank === undefined) return 1;
  if (rank === undefined || rank === 0) return undefined;
  if (scale !== undefined) return scale * scalar;
  if (alpha !== undefined) return (alpha / rank) * scalar;
  return (isPeft ? (settings?.scaleOf(name, rank) ?? 1) : 1) * scalar;
}

/** The family, and what is particular about this one of it. */
function familyLabel({ family, tensors }: LoraModule, shape: ShapeOf): string {
  if (['mid', 'hada_t1', 'lokr_t2'].some((role) => tensors.has(role))) return `${family} (Tucker)`;
  if (family === 'OFT' && shape('oft_blocks')?.length === 4) return 'BOFT';
  if (family === 'GLoRA' && oldGlora(shape)) return 'GLoRA (old order)';
  if (family === 'DoRA' && isByInput(tensors.get('dora_scale') ?? '', shape)) return 'DoRA (by input)';
  if (family !== 'unknown') return family;
  const extra = EXTRAS.find(({ role }) => tensors.has(role));
  if (extra === undefined) return family;
  return tensors.has('up') && tensors.has('down') ? `LoRA with ${extra.role}` : extra.role;
}

/** Tensors that one program alone knows what to do with. */
const EXTRAS = [
  { role: 'bias', means: 'A1111 alone adds to what it does' },
  { role: 'set_weight', means: 'ComfyUI alone puts in the place of the weight' },
  { role: 'reshape_weight', means: 'ComfyUI alone pads the weight with' },
] as const;

/** LyCORIS took the norm over outputs until April 2025. PEFT never does, though its shape for convolutions looks like it. */
function isByInput(tensor: string, shape: ShapeOf): boolean {
  const [first, ...rest] = shape('dora_scale') ?? [];
  return first === 1 && rest.length > 0 && shape('up')?.[0] !== 1 && !tensor.includes('magnitude_vector');
}

function problemsOf(
  { family, tensors }: LoraModule,
  shape: ShapeOf,
  scalars: ReadonlyMap<string, number>,
): readonly string[] {
  const problems: string[] = [];
  const alphaName = tensors.get('alpha');
  const alpha = scalars.get(alphaName ?? '');
  if (alphaName !== undefined && alpha === undefined) problems.push('its alpha is not one number');
  else if (alpha !== undefined && !Number.isFinite(alpha)) problems.push(`its alpha is ${alpha}`);
  if (family === 'unknown') {
    const has = [...tensors.keys()].sort().join(', ');
    const extra = EXTRAS.find(({ role }) => tensors.has(role));
    if (extra !== undefined) problems.push(`it has "${extra.role}", which ${extra.means}`);
    else if (tensors.has('up') && tensors.has('down')) problems.push(`it is a LoRA with more to it (${has})`);
    else problems.push(`it has only ${has}`);
  }
  if (family === 'LoRA' || family === 'DoRA') {
    const [up, down, mid] = [shape('up') ?? [], shape('down') ?? [], shape('mid')];
    if (up.length < 2 || down.length < 2) problems.push('its factors are no matrices');
    else if (mid === undefined && up[1] !== down[0]) problems.push(`"up" has the rank ${up[1]} and "down" ${down[0]}`);
    else if (mid !== undefined && (up[1] !== mid[0] || mid[1] !== down[0]))
      problems.push('its three factors do not fit each other');
  }
  return problems;
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((result, size) => result * size, 1);
}
