// The name of a module in each format that lorac writes: the inverse of `names.ts`.
//
//                  UNet of SDXL                                  text encoder 2 of SDXL
// kohya            lora_unet_output_blocks_1_1_proj_in           lora_te2_text_model_encoder_layers_3_mlp_fc1
// kohya-diffusers  lora_unet_up_blocks_0_attentions_1_proj_in    the same
// diffusers        unet.up_blocks.0.attentions.1.proj_in         text_encoder_2.text_model.encoder.layers.3.mlp.fc1
// comfyui          diffusion_model.output_blocks.1.1.proj_in     text_encoders.clip_g.transformer.text_model.encoder…
// lycoris          lycoris_up_blocks_0_attentions_1_proj_in      as kohya: no reader knows another name
//
// sd-scripts itself names the UNet of Stable Diffusion 1 and 2 as in `kohya-diffusers`, so there the first two are one.

import type { LoraFormat } from '../../parser/lora-formats.ts';
import { type Component, type ModuleName, OUTSIDE, RESIDUAL } from './names.ts';

/** Whose modules a file has. `SD2` has the text encoder of OpenCLIP alone. */
export type Generation = 'SDXL' | 'SD1' | 'SD2';

/** `undefined` where the format has no name for the module: its path is none that we know in that format's words. */
export function moduleNameIn(format: LoraFormat, name: ModuleName, generation: Generation): string | undefined {
  return name.component === 'unet' ? unetName(format, name.path, generation) : textName(format, name, generation);
}

/** kohya's name: the canonical one, by which modules are paired. Every module that can be read has one. */
export function canonicalName(name: ModuleName, generation: Generation): string {
  return moduleNameIn('kohya', name, generation) ?? `lora_${componentIn(name.component, generation)}_${name.path}`;
}

function unetName(format: LoraFormat, path: string, generation: Generation): string | undefined {
  if (format === 'kohya' && generation === 'SDXL') return `lora_unet_${path}`;
  if (format === 'comfyui')
    return prefixed('diffusion_model.', dotted(checkpointSpelling(path, generation), UNET_WORDS));
  const diffusers = diffusersPath(path);
  if (format === 'diffusers') return prefixed('unet.', dotted(diffusers, UNET_WORDS));
  return prefixed(format === 'lycoris' ? 'lycoris_' : 'lora_unet_', diffusers);
}

function textName(format: LoraFormat, { component, path }: ModuleName, generation: Generation): string | undefined {
  const encoder = componentIn(component, generation);
  if (format !== 'diffusers' && format !== 'comfyui') return `lora_${encoder}_${path}`;
  const inner = dotted(path, TEXT_WORDS);
  if (format === 'diffusers') return prefixed(encoder === 'te2' ? 'text_encoder_2.' : 'text_encoder.', inner);
  const clip = encoder === 'te2' ? 'clip_g' : generation === 'SD2' ? 'clip_h' : 'clip_l';
  return prefixed(`text_encoders.${clip}.transformer.`, inner);
}

/** diffusers and ComfyUI call a lone text encoder as they call the first of two. */
function componentIn(component: Component, generation: Generation): Component {
  return generation !== 'SDXL' && component === 'te1' ? 'te' : component;
}

function prefixed(prefix: string, path: string | undefined): string | undefined {
  return path === undefined ? undefined : prefix + path;
}

const swapped = (table: { readonly [key: string]: string }): ReadonlyMap<string, string> =>
  new Map(Object.entries(table).map(([diffusers, checkpoint]) => [checkpoint, diffusers]));

const residual = swapped(RESIDUAL);
const outside = swapped(OUTSIDE);

/** A path of the checkpoint in diffusers' words, both with underscores; `undefined` for one that is in neither. */
export function diffusersPath(path: string): string | undefined {
  if (outside.has(path)) return outside.get(path);
  const [, middle, inside = ''] = /^middle_block_([012])_(.+)$/.exec(path) ?? [];
  if (middle === '1') return `mid_block_attentions_0_${inside}`;
  if (middle !== undefined) return prefixed(`mid_block_resnets_${Number(middle) / 2}_`, residual.get(inside));
  const [, side, number, place, leaf = ''] = /^(input|output)_blocks_(\d+)_([012])_(.+)$/.exec(path) ?? [];
  if (side === undefined || path.startsWith('input_blocks_0_')) return undefined;
  // The first of the input blocks is a convolution of its own, outside of the levels.
  const count = Number(number) - (side === 'input' ? 1 : 0);
  const [level, at] = [Math.floor(count / 3), count % 3];
  if (side === 'input' && at === 2) return leaf === 'op' ? `down_blocks_${level}_downsamplers_0_conv` : undefined;
  const blocks = `${side === 'input' ? 'down' : 'up'}_blocks_${level}`;
  if (side === 'output' && leaf === 'conv') return at === 2 ? `${blocks}_upsamplers_0_conv` : undefined;
  if (place === '0') return prefixed(`${blocks}_resnets_${at}_`, residual.get(leaf));
  return place === '1' ? `${blocks}_attentions_${at}_${leaf}` : undefined;
}

/** The first level of Stable Diffusion 1 and 2 on the way up has no attention, so its upsampler stands a place earlier. */
function checkpointSpelling(path: string, generation: Generation): string {
  return generation !== 'SDXL' && path === 'output_blocks_2_2_conv' ? 'output_blocks_2_1_conv' : path;
}

/** Words with an underscore inside come first: it is no border between two names. */
const UNET_WORDS = oneOf([
  ...['input_blocks', 'middle_block', 'output_blocks', 'in_layers', 'out_layers', 'emb_layers', 'skip_connection'],
  ...['time_embed', 'label_emb', 'transformer_blocks', 'proj_in', 'proj_out', 'to_q', 'to_k', 'to_v', 'to_out'],
  ...['down_blocks', 'mid_block', 'up_blocks', 'time_emb_proj', 'conv_shortcut', 'conv_in', 'conv_out'],
  ...['conv_norm_out', 'time_embedding', 'add_embedding', 'linear_1', 'linear_2'],
  ...['resnets', 'attentions', 'downsamplers', 'upsamplers', 'attn1', 'attn2', 'norm1', 'norm2', 'norm3', 'norm'],
  ...['ff', 'net', 'proj', 'conv1', 'conv2', 'conv', 'op', 'out', '\\d+'],
]);

const TEXT_WORDS = oneOf([
  ...['text_model', 'self_attn', 'q_proj', 'k_proj', 'v_proj', 'out_proj', 'layer_norm1', 'layer_norm2'],
  ...['final_layer_norm', 'position_embedding', 'token_embedding', 'text_projection'],
  ...['encoder', 'layers', 'mlp', 'fc1', 'fc2', 'embeddings', '\\d+'],
]);

function oneOf(words: readonly string[]): RegExp {
  return new RegExp(`(?<![^_])(?:${words.join('|')})(?![^_])`, 'g');
}

/** A path with dots between its names; `undefined` where it has a word that no SDXL or Stable Diffusion has. */
function dotted(path: string | undefined, words: RegExp): string | undefined {
  const names = path?.match(words) ?? [];
  return names.join('_') === path ? names.join('.') : undefined;
}
