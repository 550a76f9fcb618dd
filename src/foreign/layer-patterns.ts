// Patterns of single layers: here names as LoRA files have them, with * and ?; in sd-scripts' networks.loha and
// networks.lokr (network_reg_dims, network_reg_lrs) regular expressions over the names of live modules, in which dots stand
// where LoRA files have underscores. Both have to fit a whole name.

import { isLayerPattern } from '../parser/blocks.ts';

export type Part = 'unet' | 'text_encoder';

/** `undefined` for an expression that says more than a pattern can. */
export function patternOf(expression: string): string | undefined {
  const inside = expression.replace(/^\^/, '').replace(/\$$/, '');
  if (!/^(?:\.[*+]|\\[._]|\[\\?\._\]|\[_\\?\.\]|[a-z0-9_.])*$/.test(inside)) return undefined;
  const pattern = inside
    .replaceAll('.*', '*')
    .replaceAll('.+', '?*')
    .replaceAll(/\\[._]|\[\\?\._\]|\[_\\?\.\]/g, '_')
    // A dot that nobody escaped is meant as one.
    .replaceAll('.', '_');
  const whole = /^(?:input_blocks|middle_block|output_blocks)/.test(pattern)
    ? `lora_unet_${pattern}`
    : pattern.startsWith('text_model')
      ? `lora_te?_${pattern}`
      : pattern;
  return whole.startsWith('*') || whole.startsWith('lora_') ? named(whole) : undefined;
}

const named = (pattern: string) => {
  const known = pattern === '*' ? 'lora_*' : pattern;
  return isLayerPattern(known) ? known : undefined;
};

/** `undefined` where only one of two text encoders is meant, whose modules have the same names there. */
export function expressionOf(pattern: string): string | undefined {
  const inside = pattern.replace(/^lora_(?:unet|te\?)_/, '');
  if (/lora|unet|te[12?]_/.test(inside)) return undefined;
  return inside.replaceAll('_', '[._]').replaceAll('*', '.*').replaceAll('?', '.');
}

/** Which layers a pattern can fit, as far as its letters tell. `undefined`: any. */
export function shapeOf(pattern: string): 'linear' | '3x3' | undefined {
  if (/in_layers|out_layers|_op$|_conv$|resnets/.test(pattern)) return '3x3';
  return /attn|transformer|proj|to_[qkv]|to_out|ff_net|mlp|emb_layers|skip_connection|encoder_layers/.test(pattern)
    ? 'linear'
    : undefined;
}

export function partOf(pattern: string): Part | undefined {
  if (/^lora_te|self_attn|_mlp_|text_model|encoder_layers/.test(pattern)) return 'text_encoder';
  return /^lora_unet|_blocks?_|attn[12]|to_[qkv]|to_out|ff_net|in_layers|out_layers|emb_layers/.test(pattern)
    ? 'unet'
    : undefined;
}

/** `expression=number,expression=number`, with what is no such pair left out, as sd-scripts reads it. */
export function pairsOf(text: string): readonly (readonly [string, number])[] {
  return text.split(',').flatMap((pair) => {
    const [, expression, number] = /^\s*([^=]+?)\s*=\s*(.+?)\s*$/.exec(pair) ?? [];
    const value = Number(number);
    return expression === undefined || number === undefined || !Number.isFinite(value)
      ? []
      : [[expression, value] as const];
  });
}
