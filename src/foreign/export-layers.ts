// A network whose layers have ranks or rates of their own as flags: sd-scripts' networks.loha and networks.lokr take them by
// regular expressions.

import { isLayerPattern } from '../parser/blocks.ts';
import type { AttributesOf } from '../parser/model.ts';
import { addFlag, addList, type CommandDraft } from './command-draft.ts';
import { expressionOf, type Part, partOf, shapeOf } from './layer-patterns.ts';

type Train = AttributesOf<'train'>;
type Numbers = { readonly [blockOrPattern: string]: number };
type Ranked = Extract<Train['network'], { kind: 'loha' | 'lokr' }>;

export function hasLayers({ network, block_lr }: Train): boolean {
  const ranks = 'dims' in network ? { ...network.dims, ...network.conv_dims } : {};
  return Object.keys({ ...block_lr, ...ranks }).some(isLayerPattern);
}

/** `options`: what else LyCORIS would be told. */
export function exportLayers(
  draft: CommandDraft,
  train: Train,
  { network, options }: { readonly network: Ranked; readonly options: readonly string[] },
): void {
  addFlag(draft, 'network_module', `networks.${network.kind}`);
  addFlag(draft, 'network_dim', network.dim);
  addFlag(draft, 'network_alpha', network.alpha);
  const isFull = network.preset === 'full' || network.preset === 'unet-only';
  const rateOf: { readonly [part in Part]: number } = { unet: train.unet_lr, text_encoder: train.text_encoder_lr };
  const misfit = Object.keys(network.dims).filter(
    (pattern) => isLayerPattern(pattern) && shapeOf(pattern) === undefined,
  );
  if (misfit.length > 0)
    draft.notes.push(`dims: there ${misfit.map((one) => `"${one}"`).join(', ')} means 3x3 convolutions as well.`);
  const args = [
    ...(isFull ? [`conv_dim=${network.conv_dim}`, `conv_alpha=${network.conv_alpha}`] : []),
    ...expressions(draft, 'network_reg_dims', { ...network.dims, ...network.conv_dims }, (_, rank) => rank),
    ...expressions(draft, 'network_reg_lrs', train.block_lr, (pattern, factor) => {
      const part = partOf(pattern);
      return part && rateOf[part] * factor;
    }),
    ...(train.loraplus_lr_ratio === 1 ? [] : [`loraplus_lr_ratio=${train.loraplus_lr_ratio}`]),
    ...options.filter((one) => /^(?:rank_dropout|module_dropout|use_tucker|factor)=/.test(one)),
  ];
  addList(draft, 'network_args', args);
  if (network.dropout > 0) addFlag(draft, 'network_dropout', network.dropout);
  const lost = options.filter((one) => !/^(?:rank_dropout|module_dropout|use_tucker|factor)=/.test(one));
  if (lost.length > 0) draft.notes.push(`${lost.join(', ')}: networks.${network.kind} has no such argument.`);
}

/** The first that fits counts there, here the narrowest: more letters are likelier to be that. */
function expressions(
  draft: CommandDraft,
  name: string,
  numbers: Numbers,
  numberFor: (pattern: string, number: number) => number | undefined,
): string[] {
  const keys = Object.keys(numbers).toSorted((a, b) => b.length - a.length);
  const pairs = keys.flatMap((key) => {
    const value = isLayerPattern(key) ? numberFor(key, numbers[key] as number) : undefined;
    const expression = value === undefined ? undefined : expressionOf(key);
    if (expression === undefined) draft.notes.push(`${name}: sd-scripts cannot say ${key} = ${numbers[key]}.`);
    return expression === undefined ? [] : [`${expression}=${value}`];
  });
  return pairs.length === 0 ? [] : [`${name}=${pairs.join(',')}`];
}
