// What a single-file checkpoint calls the tensors of a diffusers folder.
//
//   unet/             down_blocks.1.attentions.0.proj_in.weight       model.diffusion_model.input_blocks.4.1.proj_in.weight
//   text_encoder/     text_model.encoder.layers.0.mlp.fc1.weight      conditioner.embedders.0.transformer.text_model.…
//   text_encoder_2/   text_model.encoder.layers.0.self_attn.k_proj.…  the second third of …resblocks.0.attn.in_proj_…
//   vae/              decoder.up_blocks.0.resnets.1.conv1.weight      first_stage_model.decoder.up.3.block.1.conv1.weight
//
// python/lora_worker/folder_names.py holds the same rules.

import type { Part } from '../graph/model-folder.ts';
import { TE1, TE2, UNET, VAE } from './architecture.ts';
import { moduleNameIn } from './formats.ts';
import { readModuleName } from './names.ts';

export interface CheckpointTensor {
  readonly name: string;
  /** Which third of the rows it is, where q, k and v are stored as one. */
  readonly third: 0 | 1 | 2 | undefined;
  /** What makes the folder's tensor the checkpoint's. */
  readonly change: 'none' | 'transpose' | 'add-kernel';
}

/** `names`: all of the part's tensors. `needless`: known and read by nobody. `undefined`: SDXL has no such tensor. */
export function checkpointTensor(
  part: Part,
  name: string,
  names: ReadonlySet<string>,
): CheckpointTensor | 'needless' | undefined {
  const [, path = '', kind = ''] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
  switch (part) {
    case 'unet': {
      const module = unetModule(path, names);
      return module === undefined ? undefined : plain(`${UNET}${module}.${kind}`);
    }
    case 'text_encoder':
      return LEFT_BEHIND.test(name) ? 'needless' : plain(TE1 + name);
    case 'text_encoder_2':
      return LEFT_BEHIND.test(name) ? 'needless' : openClipTensor(name);
    case 'vae': {
      const module = vaeModule(path);
      if (module === undefined) return undefined;
      const isLinear = kind === 'weight' && /\.attn_1\.(?:q|k|v|proj_out)$/.test(module);
      return { ...plain(`${VAE}${module}.${kind}`), change: isLinear ? 'add-kernel' : 'none' };
    }
  }
}

/** Old versions of transformers wrote these. */
const LEFT_BEHIND = /^(?:text_model\.)?(?:embeddings\.position_ids|logit_scale)$/;

const plain = (name: string): CheckpointTensor => ({ name, third: undefined, change: 'none' });

function unetModule(path: string, names: ReadonlySet<string>): string | undefined {
  const module = readModuleName(`unet.${path}`);
  const dotted = module && moduleNameIn('comfyui', module, 'SDXL')?.replace(/^diffusion_model\./, '');
  const [, block] = /^(up_blocks\.\d)\.upsamplers\./.exec(path) ?? [];
  // An upsampler stands behind the attention of its level, where there is one.
  const isBehind = block === undefined || [...names].some((name) => name.startsWith(`${block}.attentions.`));
  return isBehind ? dotted : dotted?.replace(/\.2\.conv$/, '.1.conv');
}

const OPEN_CLIP: { readonly [name: string]: string } = {
  'text_model.embeddings.position_embedding.weight': 'positional_embedding',
  'text_model.embeddings.token_embedding.weight': 'token_embedding.weight',
  'text_model.final_layer_norm.weight': 'ln_final.weight',
  'text_model.final_layer_norm.bias': 'ln_final.bias',
};

const OPEN_CLIP_LAYER: { readonly [module: string]: string } = {
  layer_norm1: 'ln_1',
  layer_norm2: 'ln_2',
  'self_attn.out_proj': 'attn.out_proj',
  'mlp.fc1': 'mlp.c_fc',
  'mlp.fc2': 'mlp.c_proj',
};

const FUSED = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'];

function openClipTensor(name: string): CheckpointTensor | undefined {
  // x·P there, and x·Wᵀ here.
  if (name === 'text_projection.weight') return { ...plain(`${TE2}text_projection`), change: 'transpose' };
  if (Object.hasOwn(OPEN_CLIP, name)) return plain(`${TE2}${OPEN_CLIP[name]}`);
  const [, layer, module = '', kind] = /^text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  const block = `${TE2}transformer.resblocks.${layer}`;
  const third = FUSED.indexOf(module);
  if (third >= 0) return { ...plain(`${block}.attn.in_proj_${kind}`), third: third as 0 | 1 | 2 };
  return Object.hasOwn(OPEN_CLIP_LAYER, module) ? plain(`${block}.${OPEN_CLIP_LAYER[module]}.${kind}`) : undefined;
}

const VAE_RESIDUAL: { readonly [module: string]: string } = {
  norm1: 'norm1',
  conv1: 'conv1',
  norm2: 'norm2',
  conv2: 'conv2',
  conv_shortcut: 'nin_shortcut',
};

/** With the names from before diffusers had one class for all attention, which SDXL's own VAE is published in. */
const VAE_ATTENTION: { readonly [module: string]: string } = {
  group_norm: 'norm',
  to_q: 'q',
  to_k: 'k',
  to_v: 'v',
  'to_out.0': 'proj_out',
  query: 'q',
  key: 'k',
  value: 'v',
  proj_attn: 'proj_out',
};

function vaeModule(path: string): string | undefined {
  if (/^(?:post_)?quant_conv$|^(?:encoder|decoder)\.conv_(?:in|out)$/.test(path)) return path;
  const [, side, rest = ''] = /^(encoder|decoder)\.(.+)$/.exec(path) ?? [];
  if (side === undefined) return undefined;
  if (rest === 'conv_norm_out') return `${side}.norm_out`;
  const known = (table: { readonly [module: string]: string }, module: string, place: string) =>
    Object.hasOwn(table, module) ? `${side}.${place}.${table[module]}` : undefined;
  const [, middle, leaf = ''] = /^mid_block\.resnets\.([01])\.(.+)$/.exec(rest) ?? [];
  if (middle !== undefined) return known(VAE_RESIDUAL, leaf, `mid.block_${Number(middle) + 1}`);
  const [, attention] = /^mid_block\.attentions\.0\.(.+)$/.exec(rest) ?? [];
  if (attention !== undefined) return known(VAE_ATTENTION, attention, 'mid.attn_1');
  const way = side === 'encoder' ? 'down' : 'up';
  const [, level = '', inner = ''] = new RegExp(`^${way}_blocks\\.([0-3])\\.(.+)$`).exec(rest) ?? [];
  // The decoder counts its levels from the finest, and diffusers in the order in which they are run.
  const place = `${way}.${way === 'down' ? level : 3 - Number(level)}`;
  if (inner === `${way}samplers.0.conv`) return `${side}.${place}.${way}sample.conv`;
  const [, block, module = ''] = /^resnets\.(\d)\.(.+)$/.exec(inner) ?? [];
  return block === undefined ? undefined : known(VAE_RESIDUAL, module, `${place}.block.${block}`);
}
