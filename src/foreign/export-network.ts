// A network as flags: LyCORIS for all that it has, and sd-scripts' own module where ranks or rates differ by block.

import type { AttributesOf } from '../parser/model.ts';
import { network as rows } from '../parser/schema/network.ts';
import { addFlag, addList, type CommandDraft } from './command-draft.ts';
import { exportLayers, hasLayers } from './export-layers.ts';

type Train = AttributesOf<'train'>;
type Numbers = { readonly [block: string]: number };

const parts = { IN: 9, MID: 3, OUT: 9 } as const;
const blocks = Object.entries(parts).flatMap(([part, count]) =>
  Array.from({ length: count }, (_, at) => `${part}0${at}`),
);

export function exportNetwork(draft: CommandDraft, train: Train): void {
  const { network } = train;
  const asks = (numbers: Numbers) => Object.keys(numbers).length > 0;
  const isByBlock =
    asks(train.block_lr) ||
    train.loraplus_lr_ratio !== 1 ||
    ('dims' in network && (asks(network.dims) || asks(network.conv_dims)));
  if (isByBlock && network.kind === 'locon') ownModule(draft, train, network);
  else if (hasLayers(train) && (network.kind === 'loha' || network.kind === 'lokr'))
    exportLayers(draft, train, { network, options: options(network) });
  else lycoris(draft, train);
  if (network.modules.length > 0)
    draft.notes.push('modules: LyCORIS takes a list of layers from a preset file of its own.');
  if (network.text_encoder_modules !== 'all')
    draft.notes.push(
      'text_encoder_modules: which layers of the text encoders are trained hangs on the version of LyCORIS.',
    );
}

function lycoris(draft: CommandDraft, { network, block_lr, loraplus_lr_ratio }: Train): void {
  addFlag(draft, 'network_module', 'lycoris.kohya');
  if (network.kind !== 'full') {
    addFlag(draft, 'network_dim', network.dim);
    addFlag(draft, 'network_alpha', network.alpha);
  }
  const isDora = network.kind === 'dora';
  const args = [
    `algo=${isDora ? 'locon' : network.kind}`,
    // The preset unet-only is full, and the text encoders are switched off beside it.
    `preset=${network.preset === 'unet-only' ? 'full' : network.preset}`,
    ...(isDora ? ['dora_wd=True'] : []),
    ...(network.kind === 'full' ? [] : [`conv_dim=${network.conv_dim}`, `conv_alpha=${network.conv_alpha}`]),
    ...options(network),
    // Without it LyCORIS rounds each change to the grid of the base's weights, and does nothing with network_dropout.
    ...(isDora && network.dropout === 0 ? [] : ['bypass_mode=True']),
  ];
  addList(draft, 'network_args', args);
  if (network.dropout > 0) addFlag(draft, 'network_dropout', network.dropout);
  if (isDora && network.dropout > 0) draft.notes.push('dropout: LyCORIS has none together with dora_wd.');
  if (Object.keys(block_lr).length > 0) draft.notes.push('block_lr: LyCORIS has no rates by block.');
  if (loraplus_lr_ratio !== 1) draft.notes.push('loraplus_lr_ratio: LyCORIS has no LoRA+.');
  if ('dims' in network && (Object.keys(network.dims).length > 0 || Object.keys(network.conv_dims).length > 0))
    draft.notes.push('dims, conv_dims: LyCORIS has ranks by block in a preset file of its own.');
}

/** Arguments with the same name and meaning on both sides, where they are not the default. */
function options(network: Train['network']): string[] {
  const fields = rows.variants[network.kind];
  const names = [
    'rank_dropout',
    'module_dropout',
    'rank_dropout_scale',
    'use_tucker',
    'use_scalar',
    'wd_on_output',
    'train_norm',
    'rs_lora',
    'factor',
    'decompose_both',
    'full_matrix',
    'unbalanced_factorization',
  ];
  return names.flatMap((name) => {
    const value = (network as { readonly [name: string]: unknown })[name];
    const usual = (fields as { readonly [name: string]: { readonly default: unknown } })[name]?.default;
    if (value === undefined || value === usual) return [];
    return [`${name}=${value === true ? 'True' : value === false ? 'False' : value}`];
  });
}

/** networks.lora: ranks and rates by block, and LoRA+. */
function ownModule(draft: CommandDraft, train: Train, network: Extract<Train['network'], { kind: 'locon' }>): void {
  addFlag(draft, 'network_module', 'networks.lora');
  addFlag(draft, 'network_dim', network.dim);
  addFlag(draft, 'network_alpha', network.alpha);
  const isFull = network.preset === 'full' || network.preset === 'unet-only';
  // There a rank of 0 is for linear layers alone.
  const zeros = blocks.filter(
    (block) => numberOf(network.dims, block) === 0 && numberOf(network.conv_dims, block) === undefined,
  );
  const conv_dims = { ...network.conv_dims, ...Object.fromEntries(zeros.map((block) => [block, 0])) };
  const args = [
    ...(isFull ? [`conv_dim=${network.conv_dim}`, `conv_alpha=${network.conv_alpha}`] : []),
    ...(Object.keys(network.dims).length > 0
      ? [`block_dims=${byBlock(draft, 'dims', network.dims, network.dim)}`]
      : []),
    ...(isFull && (Object.keys(conv_dims).length > 0 || Object.keys(network.conv_dims).length > 0)
      ? [`conv_block_dims=${byBlock(draft, 'conv_dims', conv_dims, network.conv_dim)}`]
      : []),
    ...rates(draft, train.block_lr),
    ...(train.loraplus_lr_ratio === 1 ? [] : [`loraplus_lr_ratio=${train.loraplus_lr_ratio}`]),
    ...(network.rank_dropout > 0 ? [`rank_dropout=${network.rank_dropout}`] : []),
    ...(network.module_dropout > 0 ? [`module_dropout=${network.module_dropout}`] : []),
  ];
  addList(draft, 'network_args', args);
  if (network.dropout > 0) addFlag(draft, 'network_dropout', network.dropout);
  if (network.preset === 'attn-only')
    draft.notes.push('preset = attn-only: sd-scripts trains the layers between attentions as well.');
  for (const name of ['use_tucker', 'use_scalar', 'train_norm', 'rs_lora', 'rank_dropout_scale'] as const) {
    if (network[name])
      draft.notes.push(`${name}: sd-scripts has it in LyCORIS, which has no ranks and rates by block.`);
  }
}

/** 23 ranks: one for what lies before the blocks, one for each block, one for what lies behind. */
function byBlock(draft: CommandDraft, name: string, numbers: Numbers, usual: number): string {
  const odd = Object.keys(numbers).filter((key) => !(key in parts) && !blocks.includes(key));
  if (odd.length > 0) draft.notes.push(`${name}: sd-scripts has no ranks of its own for ${odd.join(', ')}.`);
  return [usual, ...blocks.map((block) => numberOf(numbers, block) ?? usual), usual].join(',');
}

/** A block goes before its group. */
const numberOf = (numbers: Numbers, block: string) => numbers[block] ?? numbers[block.replace(/\d+$/, '')];

function rates(draft: CommandDraft, block_lr: Numbers): string[] {
  const odd = Object.keys(block_lr).filter(
    (key) => !(key in parts) && !blocks.includes(key) && key !== 'TE1' && key !== 'TE2',
  );
  if (odd.length > 0) draft.notes.push(`block_lr: sd-scripts has no rates of its own for ${odd.join(', ')}.`);
  const flags = { IN: 'down_lr_weight', MID: 'mid_lr_weight', OUT: 'up_lr_weight' } as const;
  return Object.entries(flags).flatMap(([part, flag]) => {
    const factors = blocks.filter((block) => block.startsWith(part)).map((block) => numberOf(block_lr, block) ?? 1);
    return factors.every((factor) => factor === 1) ? [] : [`${flag}=${factors.join(',')}`];
  });
}
