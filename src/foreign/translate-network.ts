// Networks: `network_module` with its arguments, from sd-scripts' own modules and from LyCORIS.
// Read in sd-scripts 0.10 (networks/lora.py) and LyCORIS 3.3 (lycoris/kohya.py).

import { network } from '../parser/schema/network.ts';
import { type Asked, argumentsOf } from './asked.ts';
import { fitted, isWritable, rowOf } from './draft.ts';
import { asBoolean, asNumber, asNumbers, type Plain } from './plain.ts';
import { literalOrText } from './python-literal.ts';
import { type Leave, layerRates } from './translate-ranks.ts';

export type NetworkKind = keyof typeof network.variants;

interface Module {
  readonly kind: NetworkKind;
  readonly isLycoris: boolean;
}

interface NetworkDraft {
  readonly kind: NetworkKind;
  readonly [field: string]: unknown;
}

export interface TranslatedNetwork {
  readonly network: NetworkDraft;
  /** What the arguments say about rates. */
  readonly blockRates: { readonly [block: string]: number };
  /** Rates, and no factors, of single layers. */
  readonly layerRates: { readonly [pattern: string]: number };
  readonly loraPlusRatio: number | undefined;
  /** The preset leaves the text encoders out. */
  readonly isUnetOnly: boolean;
}

const ownModules: { readonly [name: string]: NetworkKind } = {
  'networks.lora': 'locon',
  'networks.lora_fa': 'locon',
  'networks.dylora': 'locon',
  'networks.loha': 'loha',
  'networks.lokr': 'lokr',
};

const algorithms: { readonly [algo: string]: NetworkKind } = {
  lora: 'locon',
  locon: 'locon',
  loha: 'loha',
  lokr: 'lokr',
  full: 'full',
};

/** Arguments that say what lorac does in any case, or that change no result. */
const harmless = new Set([
  'bypass_mode',
  'verbose',
  'use_fused_backprop',
  'disable_conv_cp',
  'block_lr_zero_threshold',
]);

export function translateNetwork(asked: Asked): TranslatedNetwork {
  const args = argumentsOf(asked.get('network_args'));
  const { kind, isLycoris } = moduleOf(asked, args);
  const fields = network.variants[kind];
  const draft: { kind: NetworkKind; [field: string]: unknown } = { kind };
  const leave = (name: string, value: Plain, reason: string) => asked.leaveValue({ name, value, reason });
  const place = (name: string, value: Plain) => {
    const [field, row] = rowOf(fields, name) ?? [];
    const fitting = row === undefined ? undefined : fitted(row.type, value);
    if (field === undefined || fitting === undefined)
      leave(
        name,
        value,
        field === undefined
          ? `A network of the kind ${kind} has no such setting here.`
          : `${field} cannot be that here.`,
      );
    else draft[field] = fitting;
  };

  const ranks = ranksOf(asked, args, isLycoris);
  if (kind !== 'full') for (const [name, value] of Object.entries(ranks)) if (value !== undefined) place(name, value);
  const hasConvolutions = isLycoris || args.has('conv_dim');
  const { preset, isUnetOnly } = presetOf(args, hasConvolutions, leave);
  if (preset !== 'full') draft.preset = preset;

  const dropout = asked.number('network_dropout') ?? 0;
  const bypass = asBoolean(args.get('bypass_mode')) === true;
  if (dropout > 0 && isLycoris && !bypass)
    leave('network_dropout', dropout, 'LyCORIS does nothing with it unless bypass_mode is on; here dropout would act.');
  else if (dropout > 0) place('dropout', dropout);

  const rates = ratesOf(args, leave);
  for (const [name, text] of args) {
    if (harmless.has(name) || handled.has(name) || text === '') continue;
    placeArgument({ name, text, place, leave });
  }
  return { network: draft, ...rates, layerRates: layerRates(args, leave), isUnetOnly };
}

/** Read by name, above or below. */
const handled = new Set([
  'algo',
  'preset',
  'conv_dim',
  'conv_alpha',
  'linear_dim',
  'linear_alpha',
  'dora_wd',
  'weight_decompose',
  'block_dims',
  'conv_block_dims',
  'network_reg_dims',
  'network_reg_lrs',
  'down_lr_weight',
  'mid_lr_weight',
  'up_lr_weight',
  'loraplus_lr_ratio',
  'loraplus_unet_lr_ratio',
  'loraplus_text_encoder_lr_ratio',
]);

function moduleOf(asked: Asked, args: ReadonlyMap<string, string>): Module {
  const name = asked.text('network_module') ?? 'networks.lora';
  const isDora = asBoolean(args.get('dora_wd') ?? args.get('weight_decompose')) === true;
  if (/^(lycoris|locon)[./]/.test(name)) {
    const algo = (args.get('algo') ?? 'lora').toLowerCase();
    const kind = algorithms[algo];
    if (kind === undefined)
      asked.leaveValue({ name: 'algo', value: algo, reason: 'lorac has locon, dora, loha, lokr and full.' });
    if (isDora && kind !== 'locon')
      asked.leaveValue({
        name: 'dora_wd',
        value: true,
        reason: 'Only locon has a form with lengths here, which is dora.',
      });
    return { kind: isDora && kind === 'locon' ? 'dora' : (kind ?? 'locon'), isLycoris: true };
  }
  const kind = ownModules[name];
  if (kind === undefined) asked.leave('network_module', 'lorac has locon, dora, loha, lokr and full.');
  if (name === 'networks.dylora' || name === 'networks.lora_fa')
    asked.leave('network_module', 'It is trained as a plain LoRA here, which has the same form.');
  return { kind: kind ?? 'locon', isLycoris: false };
}

/** Where LyCORIS is told no rank of convolutions, they have that of linear layers; networks.lora leaves them alone. */
function ranksOf(asked: Asked, args: ReadonlyMap<string, string>, isLycoris: boolean) {
  const dim = asNumber(args.get('linear_dim')) ?? asked.number('network_dim');
  const alpha = orDim(asNumber(args.get('linear_alpha')) ?? asked.number('network_alpha'), dim);
  const isConvoluted = isLycoris || args.has('conv_dim');
  const convDim = asNumber(args.get('conv_dim')) ?? dim;
  const convAlpha = orDim(asNumber(args.get('conv_alpha')) ?? (isLycoris ? alpha : 1), convDim);
  return {
    dim,
    alpha,
    ...(isConvoluted && { conv_dim: convDim, conv_alpha: convAlpha }),
  };
}

/** An alpha of 0 stands for the rank. */
const orDim = (alpha: number | undefined, dim: number | undefined) => (alpha === 0 ? dim : alpha);

function presetOf(args: ReadonlyMap<string, string>, hasConvolutions: boolean, leave: Leave) {
  const name = args.get('preset') ?? (hasConvolutions ? 'full' : 'attn-mlp');
  if (name === 'unet-transformer-only') return { preset: 'attn-mlp', isUnetOnly: true };
  if (name === 'unet-only') return { preset: 'full', isUnetOnly: true };
  if (['full', 'attn-mlp', 'attn-only'].includes(name)) return { preset: name, isUnetOnly: false };
  leave(
    'preset',
    name,
    'lorac has full, attn-mlp, attn-only and unet-only, and modules = ["…"] for choices of your own.',
  );
  return { preset: 'full', isUnetOnly: false };
}

function placeArgument(one: {
  readonly name: string;
  readonly text: string;
  readonly place: (name: string, value: Plain) => void;
  readonly leave: Leave;
}): void {
  const { name, text, place, leave } = one;
  const value = literalOrText(text);
  const isOff = value === false || value === 0 || value === null || /^(false|0|none)$/i.test(text);
  if (name === 'factor') {
    // -1 means "as near to each other as can be".
    if (asNumber(value) !== -1) place(name, value);
  } else if (name === 'block_alphas' || name === 'conv_block_alphas') {
    leave(name, text, 'Alphas are the same for all blocks here.');
  } else if (!isOff || isKnown(name)) {
    if (typeof value === 'string' && !isWritable(value)) leave(name, text, 'This cannot be read.');
    else place(name, value);
  }
}

const isKnown = (name: string) => Object.values(network.variants).some((fields) => rowOf(fields, name) !== undefined);

/** Rates and ranks by block. */
function ratesOf(args: ReadonlyMap<string, string>, leave: Leave) {
  const blockRates: { [block: string]: number } = {};
  // Factors that are not above it are 0.
  const threshold = asNumber(args.get('block_lr_zero_threshold')) ?? 0;
  for (const [name, part, count] of [
    ['down_lr_weight', 'IN', 9],
    ['mid_lr_weight', 'MID', 3],
    ['up_lr_weight', 'OUT', 9],
  ] as const) {
    const text = args.get(name);
    const numbers = asNumbers(text);
    if (text === undefined || text === '') continue;
    if (numbers === undefined || numbers.length !== count)
      leave(name, text, `Rates by block are numbers here, ${count} for ${part}: block_lr = { ${part}00 = 0.5 }.`);
    else {
      const factors = numbers.map((number) => (number > threshold ? number : 0));
      for (const [at, factor] of factors.entries()) if (factor !== 1) blockRates[`${part}0${at}`] = factor;
    }
  }
  const ratio = asNumber(args.get('loraplus_lr_ratio'));
  for (const name of ['loraplus_unet_lr_ratio', 'loraplus_text_encoder_lr_ratio']) {
    const own = asNumber(args.get(name));
    if (own !== undefined && own !== ratio) leave(name, own, 'LoRA+ has one ratio for everything here.');
  }
  return { blockRates, loraPlusRatio: ratio ?? asNumber(args.get('loraplus_unet_lr_ratio')) };
}
