// An SDXL taken apart into a diffusers folder: narrow layers, one byte to a number, each tensor filled with a number
// that its name in a single file gives.

import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Part } from '../../src/runtime/graph/model-folder.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/runtime/safetensors/writer.ts';
import { moduleNameIn } from '../../src/runtime/sdxl/formats.ts';
import { readModuleName } from '../../src/runtime/sdxl/names.ts';

export type Shapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/** What a tensor of a single file is in a folder: one tensor, or three of a third of the rows each. */
export interface FolderTensor {
  readonly part: Part;
  readonly names: readonly string[];
  readonly turned: boolean;
  readonly isBare: boolean;
}

const whole = (part: Part, name: string): FolderTensor => ({ part, names: [name], turned: false, isBare: false });

/** By rules of its own, the other way round. `undefined` for what folders lack. */
export function folderTensor(name: string): FolderTensor | undefined {
  if (/position_ids$|logit_scale$/.test(name)) return undefined;
  const unet = /^model\.diffusion_model\.(.+)\.(\w+)$/.exec(name);
  if (unet) {
    const module = readModuleName(`diffusion_model.${unet[1]}`);
    const path = module && moduleNameIn('diffusers', module, 'SDXL')?.replace(/^unet\./, '');
    if (path === undefined) throw new Error(`No name for ${name}`);
    return whole('unet', `${path}.${unet[2]}`);
  }
  const first = name.replace(/^conditioner\.embedders\.0\.transformer\./, '');
  if (first !== name) return whole('text_encoder', first);
  const second = name.replace(/^conditioner\.embedders\.1\.model\./, '');
  if (second !== name) return openClip(second);
  return autoencoder(name.replace(/^first_stage_model\./, ''));
}

function openClip(name: string): FolderTensor {
  if (name === 'text_projection') return { ...whole('text_encoder_2', 'text_projection.weight'), turned: true };
  const fixed = name
    .replace(/^positional_embedding$/, 'embeddings.position_embedding.weight')
    .replace(/^token_embedding/, 'embeddings.token_embedding')
    .replace(/^ln_final/, 'final_layer_norm')
    .replace(/^transformer\.resblocks\./, 'encoder.layers.')
    .replace('.ln_1.', '.layer_norm1.')
    .replace('.ln_2.', '.layer_norm2.')
    .replace('.attn.out_proj.', '.self_attn.out_proj.')
    .replace('.mlp.c_fc.', '.mlp.fc1.')
    .replace('.mlp.c_proj.', '.mlp.fc2.');
  const fused = /^(.+)\.attn\.in_proj_(\w+)$/.exec(fixed);
  const names = fused ? ['q', 'k', 'v'].map((one) => `${fused[1]}.self_attn.${one}_proj.${fused[2]}`) : [fixed];
  return { ...whole('text_encoder_2', ''), names: names.map((each) => `text_model.${each}`) };
}

function autoencoder(name: string): FolderTensor {
  const renamed = name
    .replace('.norm_out.', '.conv_norm_out.')
    .replace(/\.mid\.block_([12])\./, (_, block) => `.mid_block.resnets.${block - 1}.`)
    .replace('.mid.attn_1.norm.', '.mid_block.attentions.0.group_norm.')
    .replace(/\.mid\.attn_1\.([qkv])\./, '.mid_block.attentions.0.to_$1.')
    .replace('.mid.attn_1.proj_out.', '.mid_block.attentions.0.to_out.0.')
    .replace('.nin_shortcut.', '.conv_shortcut.')
    .replace(/^encoder\.down\.(\d)\.block\./, 'encoder.down_blocks.$1.resnets.')
    .replace(/^encoder\.down\.(\d)\.downsample\./, 'encoder.down_blocks.$1.downsamplers.0.')
    .replace(/^decoder\.up\.(\d)\.block\./, (_, level) => `decoder.up_blocks.${3 - level}.resnets.`)
    .replace(/^decoder\.up\.(\d)\.upsample\./, (_, level) => `decoder.up_blocks.${3 - level}.upsamplers.0.`);
  return { ...whole('vae', renamed), isBare: /attentions\.0\.to_.+weight$/.test(renamed) };
}

/** How a tensor is filled. In a single file as in a folder, all its bytes are alike, but for `ramp`: 0, 1, 2 … */
export function bytesOf(name: string, shape: readonly number[], ramp = false): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(shape.reduce((product, size) => product * size, 1)).fill(name.length);
  return ramp ? bytes.map((_, index) => index % 251) : bytes;
}

/** The files of a folder by their names in it, to be changed before they are written. */
export function folderOf(shapes: Shapes): Map<string, TensorToWrite[]> {
  const files = new Map<string, TensorToWrite[]>();
  for (const [name, { shape }] of shapes) {
    const place = folderTensor(name);
    if (place === undefined) continue;
    const { part, names, turned, isBare } = place;
    const stem = part.startsWith('text_encoder') ? 'model' : 'diffusion_pytorch_model';
    const file = `${part}/${stem}.safetensors`;
    const [rows = 1, ...rest] = shape;
    const own = [rows / names.length, ...rest];
    const stored = turned ? own.toReversed() : isBare ? own.slice(0, 2) : own;
    const tensors = names.map((each): TensorToWrite => {
      return { name: each, dtype: 'F8_E4M3', shape: stored, source: { kind: 'bytes', bytes: bytesOf(name, stored) } };
    });
    files.set(file, [...(files.get(file) ?? []), ...tensors]);
  }
  return files;
}

export async function writeModelFolder(path: string, files: ReadonlyMap<string, readonly TensorToWrite[]>) {
  for (const [name, tensors] of files) {
    await mkdir(dirname(join(path, name)), { recursive: true });
    await writeSafetensors({ path: join(path, name), tensors: [...tensors], metadata: undefined, hashes: false });
  }
}
