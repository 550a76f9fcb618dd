// A LoRA of any trainer in the one form that all later stages and the worker read, so that spelling is settled here.
//
// names   as sd-scripts writes them: `lora_unet_output_blocks_1_1_…` in SDXL, `lora_unet_up_blocks_0_…` in SD 1 and 2
// alpha   every module with `up` and `down` has one: its own, or what PEFT's settings say, else its rank. A1111's
//         `scale` (which stands for alpha / rank) and a stray `scalar` (which multiplies ΔW) are drawn into it, in F32
// DoRA    PEFT's magnitudes get LyCORIS' name and shape; the numbers are the same
//
// Everything else is kept as it is. Bytes are copied: no number of a factor is ever rounded again.

import { SDXL } from '../../parser/blocks.ts';
import { cleanLine } from '../../parser/clean-text.ts';
import { StageFailure } from '../events.ts';
import { type BaseGuess, guessBase } from '../inspect/base-guess.ts';
import { moduleFacts } from '../inspect/module-facts.ts';
import { fromNumbers } from '../safetensors/convert.ts';
import { elementsIn } from '../safetensors/dtype.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import type { Metadata, TensorShape } from '../safetensors/layout.ts';
import type { TensorToWrite } from '../safetensors/writer.ts';
import { type AdapterSettings, readAdapterSettings } from '../sdxl/adapter-settings.ts';
import { canonicalName, type Generation } from '../sdxl/formats.ts';
import { type Family, groupModules, type LoraModule, type LoraModules } from '../sdxl/lora.ts';
import { type ModuleName, readModuleName } from '../sdxl/names.ts';
import { sdxlTargets } from '../sdxl/standard.ts';
import { negatedTensor, numberOf } from './tensor-values.ts';
import { copied } from './weigh.ts';

/** What a file holds or is going to hold. `path` is what messages call it. */
export interface LoraTensors {
  readonly path: string;
  readonly tensors: readonly TensorToWrite[];
  readonly metadata: Metadata | undefined;
  /** The file that they are a part of, where they are not all of it: names are judged by the whole. */
  readonly partOf?: SafetensorsFile;
}

export interface CanonicalModule {
  readonly name: string;
  /** What the file calls it. */
  readonly written: string;
  /** `undefined` for a module of no network that we know: its names are those of the file. */
  readonly spelling: ModuleName | undefined;
  readonly family: Family;
  /** By role, as in `LoraModule`. */
  readonly tensors: ReadonlyMap<string, TensorToWrite>;
}

export interface CanonicalLora {
  readonly path: string;
  readonly generation: Generation;
  /** Whether names and shapes say so; metadata is often wrong. */
  isSurelySdxl(): boolean;
  readonly modules: readonly CanonicalModule[];
  /** Tensors that belong to no module. */
  readonly strangers: readonly TensorToWrite[];
  /** Without PEFT's settings, which the alphas say now. */
  readonly metadata: Metadata | undefined;
  /** Whether every tensor is called what the file calls it. */
  readonly keepsNames: boolean;
}

/** A module of SDXL as kohya calls it, whatever stands behind its name. */
export const KOHYA_SDXL =
  /^lora_(?:unet_(?:input_blocks|middle_block|output_blocks|time_embed|label_emb|out)|te[12]_text)_[a-z0-9_]+$/;

export const fileTensors = (file: SafetensorsFile): LoraTensors => ({
  path: file.path,
  tensors: copied(file, file.header.tensors.keys()),
  metadata: file.header.metadata,
});

/** Whether the stage `lora` would leave the tensors of the file as they are. */
export function isCanonical(file: SafetensorsFile): boolean {
  try {
    return leavesAsItIs(file, canonicalLora(fileTensors(file)));
  } catch (error) {
    // The stage says what is wrong.
    if (error instanceof StageFailure) return false;
    throw error;
  }
}

/** The same, where it is known what the stage would write. */
export function leavesAsItIs(file: SafetensorsFile, lora: CanonicalLora): boolean {
  const tensors = canonicalTensors(lora);
  return tensors.length === file.header.tensors.size && tensors.every((tensor) => isUnchanged(file, tensor));
}

function isUnchanged(file: SafetensorsFile, { name, shape, source }: TensorToWrite): boolean {
  return source.kind === 'copy' && source.tensor === name && `${file.tensor(name).shape}` === `${shape}`;
}

export function canonicalTensors({ modules, strangers }: CanonicalLora): readonly TensorToWrite[] {
  return [...modules.flatMap(({ tensors }) => [...tensors.values()]), ...strangers];
}

/** Throws a `StageFailure` where a module is there twice, under two spellings. Reads no tensor. */
export function canonicalLora({ path, tensors, metadata, partOf }: LoraTensors): CanonicalLora {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const content = groupModules(byName.keys(), byName);
  const whole = partOf ? { content: groupFile(partOf), ...partOf.header } : { content, tensors: byName, metadata };
  const generation = generationOf(whole);
  const settings = readAdapterSettings(metadata);
  const modules = content.modules.map((module) => canonicalModule(module, { byName, generation, settings }));
  refuseTwice(path, modules, content);
  const isUnderstood = modules.every(({ spelling }, index) => spelling || !content.modules[index]?.isPeft);
  return {
    path,
    generation,
    isSurelySdxl: () => guess({ ...whole, metadata: undefined }) === 'SDXL',
    modules,
    strangers: content.strangers.flatMap((name) => byName.get(name) ?? []),
    metadata: isUnderstood ? without(metadata, 'lora_adapter_metadata') : metadata,
    keepsNames: modules.every(({ tensors: all }, index) =>
      [...all].every(([role, { name }]) => (content.modules[index]?.tensors.get(role) ?? name) === name),
    ),
  };
}

interface Whole {
  readonly content: LoraModules;
  readonly tensors: ReadonlyMap<string, TensorShape>;
  readonly metadata: Metadata | undefined;
}

/** Names that only kohya gives to SDXL settle it. To look at every shape takes a while, compared with copying a block. */
function generationOf(whole: Whole): Generation {
  const { network, modules } = whole.content;
  if (network === SDXL && modules.every(({ name }) => KOHYA_SDXL.test(name))) return 'SDXL';
  return ({ 'SD 1.x': 'SD1', 'SD 2.x': 'SD2' } as const)[guess(whole) as string] ?? 'SDXL';
}

/** Sizes and scalars are not asked for. */
function guess({ content, tensors, metadata }: Whole): BaseGuess['base'] {
  const tensor = (name: string) => ({ ...need(tensors, name), begin: 0, end: 0 });
  const targets = sdxlTargets();
  const options = { file: { tensor }, scalars: new Map(), settings: undefined, targets };
  const facts = content.modules.map((module) => moduleFacts(module, options));
  return guessBase(facts, { network: content.network, targets, metadata }).base;
}

function groupFile({ header }: SafetensorsFile): LoraModules {
  return groupModules(header.tensors.keys(), header.tensors);
}

interface Context {
  readonly byName: ReadonlyMap<string, TensorToWrite>;
  readonly generation: Generation;
  readonly settings: AdapterSettings | undefined;
}

function canonicalModule(module: LoraModule, context: Context): CanonicalModule {
  const { byName, generation, settings } = context;
  const spelling = readModuleName(module.name);
  const tensors = new Map([...module.tensors].map(([role, name]) => [role, need(byName, name)]));
  const known = { written: module.name, spelling, family: module.family };
  if (spelling === undefined) return { ...known, name: module.name, tensors };
  const name = canonicalName(spelling, generation);
  const renamed = new Map([...tensors].map(([role, tensor]) => [role, { ...tensor, name: tensorName(name, role) }]));
  const [up, down] = [renamed.get('up'), renamed.get('down')];
  if (up === undefined || down === undefined) return { ...known, name, tensors: renamed };
  const rank = down.shape[0] ?? 0;
  const outside = module.isPeft && settings ? settings.scaleOf(module.name, rank) : 1;
  const complete = withAlpha({ name, tensors: renamed, rank, outside });
  const isPeftDora = module.tensors.get('dora_scale')?.includes('.lora_magnitude_vector') === true;
  return { ...known, name, tensors: withMagnitudes(complete, up, isPeftDora) };
}

/** `lora_unet_….lora_up.weight`: what stands behind the name of a module is the same in every format with kohya's suffixes. */
export function tensorName(module: string, role: string): string {
  return `${module}.${SUFFIXES[role] ?? role}`;
}

const SUFFIXES: { readonly [role: string]: string } = {
  up: 'lora_up.weight',
  down: 'lora_down.weight',
  mid: 'lora_mid.weight',
  a1: 'a1.weight',
  a2: 'a2.weight',
  b1: 'b1.weight',
  b2: 'b2.weight',
};

type Roles = ReadonlyMap<string, TensorToWrite>;

/** `outside`: the scale that the settings of the file say, where the module has no alpha. */
function withAlpha(options: {
  readonly name: string;
  readonly tensors: Roles;
  readonly rank: number;
  readonly outside: number;
}): Roles {
  const { name, tensors, rank, outside } = options;
  const [alpha, scale, scalar] = ['alpha', 'scale', 'scalar'].map((role) => tensors.get(role));
  if (alpha !== undefined && scale === undefined && scalar === undefined) return tensors;
  // A negative scalar turns `up` instead, since some tools take the logarithm of alpha.
  const factor = scalar === undefined ? async () => 1 : () => numberOf(scalar);
  const make = async (): Promise<Uint8Array> => {
    const own = scale ? (await numberOf(scale)) * rank : alpha ? await numberOf(alpha) : outside * rank;
    return fromNumbers(Float64Array.of(own * Math.abs(await factor())), 'F32');
  };
  const made: TensorToWrite = {
    name: tensorName(name, 'alpha'),
    dtype: 'F32',
    shape: [],
    source: { kind: 'made', make },
  };
  const entries = [...tensors].flatMap(([role, tensor]): (readonly [string, TensorToWrite])[] => {
    if (role === 'scale' || role === 'scalar' || role === 'alpha') return [];
    const turns = role === 'up' && scalar !== undefined;
    return [[role, turns ? negatedTensor(tensor, async () => (await factor()) < 0) : tensor]];
  });
  return new Map([...entries, ['alpha', made]]);
}

/** PEFT's magnitudes, one per output, in the shape in which LyCORIS has them: [out, 1], or [out, 1, 1, 1] for a convolution. */
function withMagnitudes(tensors: Roles, up: TensorToWrite, isPeft: boolean): Roles {
  const scale = tensors.get('dora_scale');
  const [out] = up.shape;
  if (scale === undefined || out === undefined) return tensors;
  // Theirs of a convolution is [1, out, 1, 1], which in LyCORIS would be one per input.
  const axis = isPeft && scale.shape.length > 1 ? 1 : 0;
  const isPerOutput = scale.shape[axis] === out && elementsIn(scale.shape) === out;
  if (!isPerOutput || (!isPeft && scale.shape.length > 1)) return tensors;
  return new Map([...tensors, ['dora_scale', { ...scale, shape: [out, ...up.shape.slice(1).map(() => 1)] }]]);
}

function refuseTwice(path: string, modules: readonly CanonicalModule[], content: LoraModules): void {
  const refuse = (one: string, other: string): never => {
    throw new StageFailure({
      kind: 'bad-input',
      message: cleanLine(`"${path}" has one module twice, as "${one}" and as "${other}".`),
      hint: 'Which of the two is meant cannot be known; take one of them out.',
    });
  };
  const met = new Map<string, string>();
  for (const { name, written } of modules) {
    const other = met.get(name);
    if (other !== undefined) refuse(other, written);
    met.set(name, written);
  }
  // What is spelt otherwise than the tensor of its module that was met first is left over, and so is a lone alpha.
  const groups = new Map(content.modules.map(({ name, tensors }) => [name, tensors]));
  const taken = new Set(modules.flatMap(({ tensors }) => [...tensors.values()].map(({ name }) => name)));
  for (const stranger of content.strangers) {
    const [spare] = groupModules([stranger]).modules;
    const [role = ''] = spare?.tensors.keys() ?? [];
    const first = groups.get(spare?.name ?? '')?.get(role);
    if (first !== undefined) refuse(first, stranger);
    const module = modules.find(({ name }) => taken.has(stranger) && stranger.startsWith(`${name}.`));
    if (module !== undefined) refuse(module.written, stranger);
  }
}

function without(metadata: Metadata | undefined, key: string): Metadata | undefined {
  return metadata?.has(key) ? new Map([...metadata].filter(([name]) => name !== key)) : metadata;
}

function need<T>(byName: ReadonlyMap<string, T>, name: string): T {
  const tensor = byName.get(name);
  if (tensor === undefined) throw new Error(`Internal error: no tensor ${JSON.stringify(name)}.`);
  return tensor;
}
