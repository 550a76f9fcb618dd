// What a safetensors file holds, as far as lorac tells kinds of files apart.

import type { SafetensorsFile } from '../safetensors/file.ts';
import { type Architecture, NotSdxl, readArchitecture } from '../sdxl/architecture.ts';
import { groupModules } from '../sdxl/lora.ts';

export type WhatFile =
  | { readonly kind: 'lora' }
  | { readonly kind: 'checkpoint'; readonly architecture: Architecture }
  /** `message` follows the file's name. */
  | { readonly kind: 'other'; readonly message: string; readonly hint: string | undefined };

export function whatFile({ path, header }: SafetensorsFile): WhatFile {
  const { tensors, metadata } = header;
  if (path.endsWith('.lbw.safetensors') || metadata?.get('format')?.startsWith('Inspire LBW')) {
    return {
      kind: 'other',
      message: 'is a model with block weights as the Inspire pack stores it, not a LoRA',
      hint: 'Only its own loader reads it; use the LoRA that it was made from.',
    };
  }
  const names = [...tensors.keys()];
  if (names.length > 0 && names.every((name) => /^(?:clip_[gl]|emb_params)$|^string_to_/.test(name))) {
    return { kind: 'other', message: 'is a textual inversion, not a LoRA', hint: undefined };
  }
  if (groupModules(names).modules.length > 0) return { kind: 'lora' };
  try {
    return { kind: 'checkpoint', architecture: readArchitecture(tensors, metadata) };
  } catch (error) {
    if (!(error instanceof NotSdxl)) throw error;
    return { kind: 'other', message: error.message, hint: error.hint };
  }
}
