// The tensors of a LoRA file, gathered into modules. One file may mix families of adapters, so each module
// is judged by its own tensors, never by what the metadata says.

import type { BlockName, Network } from '../../parser/blocks.ts';
import { networkOf, placeIn } from './blocks.ts';
import { type ModuleName, readModuleName } from './names.ts';

export type Family = 'LoRA' | 'DoRA' | 'LoHa' | 'LoKr' | 'GLoRA' | 'full' | 'norm' | 'OFT' | 'IA3' | 'unknown';

export interface LoraModule {
  readonly name: string;
  readonly family: Family;
  /** `undefined` for a module that is in no part of the network that has a name. */
  readonly block: BlockName | undefined;
  /** `TE1.3`, of a module in a layer of a text encoder. */
  readonly layer: BlockName | undefined;
  /** Tensor names by what they are: `up`, `down`, `alpha`, `hada_w1_a` … */
  readonly tensors: ReadonlyMap<string, string>;
  /** Whether the names are PEFT's, which say a module's scale outside of it. */
  readonly isPeft: boolean;
}

export interface LoraModules {
  /** Whose blocks the modules are in. */
  readonly network: Network;
  /** Sorted by name. */
  readonly modules: readonly LoraModule[];
  /** Tensors that belong to no module we know of. They are kept wherever the file goes. */
  readonly strangers: readonly string[];
}

/** What stands behind a module's name, and what it is. */
const SUFFIXES: ReadonlyMap<string, string> = new Map([
  ['lora_up.weight', 'up'],
  ['lora_down.weight', 'down'],
  ['lora_mid.weight', 'mid'],
  ['lora_B.weight', 'up'],
  ['lora_A.weight', 'down'],
  ['lora_B.default.weight', 'up'],
  ['lora_A.default.weight', 'down'],
  ['lora_B', 'up'],
  ['lora_A', 'down'],
  ['lora.up.weight', 'up'],
  ['lora.down.weight', 'down'],
  ['lora_linear_layer.up.weight', 'up'],
  ['lora_linear_layer.down.weight', 'down'],
  ['alpha', 'alpha'],
  ['dora_scale', 'dora_scale'],
  ['lora_magnitude_vector', 'dora_scale'],
  ['lora_magnitude_vector.weight', 'dora_scale'],
  ['a1.weight', 'a1'],
  ['a2.weight', 'a2'],
  ['b1.weight', 'b1'],
  ['b2.weight', 'b2'],
  ...[
    ...['scale', 'scalar', 'bias', 'dyn_dim', 'set_weight', 'reshape_weight', 'diff', 'diff_b', 'w_norm', 'b_norm'],
    ...['hada_w1_a', 'hada_w1_b', 'hada_w2_a', 'hada_w2_b', 'hada_t1', 'hada_t2'],
    ...['lokr_w1', 'lokr_w1_a', 'lokr_w1_b', 'lokr_w2', 'lokr_w2_a', 'lokr_w2_b', 'lokr_t2'],
    ...['oft_blocks', 'oft_diag', 'rescale', 'on_input', 'weight'],
  ].map((word) => [word, word] as const),
]);

/** Shapes of tensors by their names. */
type Shapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/** Gathers tensors by module. Where names leave open which network they are of, shapes may tell. */
export function groupModules(tensorNames: Iterable<string>, shapes: Shapes = new Map()): LoraModules {
  const groups = new Map<string, Map<string, string>>();
  const strangers: string[] = [];
  for (const tensor of tensorNames) {
    const split = splitName(tensor);
    const group = split && (groups.get(split.module) ?? new Map<string, string>());
    if (split === undefined || group === undefined || group.has(split.role)) {
      strangers.push(tensor);
      continue;
    }
    group.set(split.role, tensor);
    groups.set(split.module, group);
  }
  const spellings = new Map([...groups.keys()].map((name) => [name, readModuleName(name)]));
  const network = networkOf(cluesFrom(groups, spellings, shapes));
  const modules: LoraModule[] = [];
  for (const [name, tensors] of groups) {
    const family = familyOf(new Set(tensors.keys()));
    const isPeft = /\.lora_[AB](?:\.|$)/.test(tensors.get('up') ?? '');
    if (family === undefined) strangers.push(...tensors.values());
    else {
      const spelling = spellings.get(name);
      const { block, layer } = (spelling && placeIn(network, spelling)) ?? {};
      modules.push({ name, family, block, layer, tensors, isPeft });
    }
  }
  return { network, modules: modules.sort((a, b) => (a.name < b.name ? -1 : 1)), strangers: strangers.sort() };
}

function* cluesFrom(
  groups: ReadonlyMap<string, ReadonlyMap<string, string>>,
  spellings: ReadonlyMap<string, ModuleName | undefined>,
  shapes: Shapes,
) {
  for (const [name, tensors] of groups) {
    const spelling = spellings.get(name);
    const width = shapes.get(tensors.get('down') ?? '')?.shape[1];
    if (spelling !== undefined) yield { name: spelling, width };
  }
}

/** Names of modules may have dots, so it is the longest known suffix that splits. */
function splitName(tensor: string): { readonly module: string; readonly role: string } | undefined {
  // Early diffusers: `….attn1.processor.to_q_lora.down.weight`.
  const [, early, side] = /^(.+)_lora\.(up|down)\.weight$/.exec(tensor) ?? [];
  if (early !== undefined && side !== undefined) return { module: early, role: side };
  for (let dot = tensor.indexOf('.'); dot >= 0; dot = tensor.indexOf('.', dot + 1)) {
    const role = SUFFIXES.get(tensor.slice(dot + 1));
    if (role !== undefined) return { module: tensor.slice(0, dot), role };
  }
  return undefined;
}

/** Beside up and down these leave ΔW what α/r · up · down says, or add a bias of the same strength. */
const HARMLESS = new Set(['up', 'down', 'mid', 'alpha', 'scale', 'scalar', 'diff_b', 'dyn_dim']);

/** `undefined`: these tensors are no adapter, whatever they are called. */
function familyOf(roles: ReadonlySet<string>): Family | undefined {
  const any = (prefix: string): boolean => [...roles].some((role) => role.startsWith(prefix));
  if (any('hada_')) return 'LoHa';
  if (any('lokr_')) return 'LoKr';
  if (any('oft_')) return 'OFT';
  if (roles.has('on_input')) return 'IA3';
  if (roles.has('a2') && roles.has('b2')) return 'GLoRA';
  if (roles.has('dora_scale')) return 'DoRA';
  if (roles.has('up') && roles.has('down')) return [...roles].every((role) => HARMLESS.has(role)) ? 'LoRA' : 'unknown';
  if (roles.has('w_norm') || roles.has('b_norm')) return 'norm';
  if (roles.has('diff') || roles.has('diff_b')) return 'full';
  return roles.has('set_weight') || roles.has('up') || roles.has('down') ? 'unknown' : undefined;
}
