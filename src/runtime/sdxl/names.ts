// The name of a LoRA's module in any spelling that trainers use, read as one and the same thing:
// which network it is in, and its path there as the checkpoint names it, with underscores.
//
// kohya            lora_unet_output_blocks_1_1_proj_in, lora_te2_text_model_encoder_layers_3_mlp_fc1
// kohya-diffusers  lora_unet_up_blocks_0_attentions_1_proj_in
// diffusers        unet.up_blocks.0.attentions.1.proj_in, text_encoder_2.text_model.encoder.layers.3.mlp.fc1
// peft             base_model.model.up_blocks.0.attentions.1.proj_in, which does not say which text encoder it means
// comfyui          diffusion_model.output_blocks.1.1.proj_in, text_encoders.clip_g.transformer.text_model.…
// lycoris          lycoris_up_blocks_0_attentions_1_proj_in

export type Scheme = 'kohya' | 'kohya-diffusers' | 'diffusers' | 'peft' | 'comfyui' | 'lycoris' | 'bare';

/** `te` is the only text encoder of Stable Diffusion 1 and 2. */
export type Component = 'unet' | 'te' | 'te1' | 'te2';

export interface ModuleName {
  readonly scheme: Scheme;
  readonly component: Component;
  /** In the checkpoint's words for the UNet, in those of transformers for text encoders. */
  readonly path: string;
  /** Whether a text encoder's path lacks `text_model`, as names taken from a recent transformers do. */
  readonly isHeadless: boolean;
}

/** Longest first where one begins like another. A prefix is written as it is after every dot became an underscore. */
const PREFIXES: readonly (readonly [prefix: string, component: Component, scheme: Scheme])[] = [
  ['lora_unet_', 'unet', 'kohya'],
  ['lora_te1_', 'te1', 'kohya'],
  ['lora_te2_', 'te2', 'kohya'],
  ['lora_te_', 'te', 'kohya'],
  ['lora_text_encoder_2_', 'te2', 'kohya'],
  ['lora_text_encoder_', 'te1', 'kohya'],
  ['lycoris_text_encoder_2_', 'te2', 'lycoris'],
  ['lycoris_text_encoder_', 'te1', 'lycoris'],
  ['lycoris_unet_', 'unet', 'lycoris'],
  ['lycoris_', 'unet', 'lycoris'],
  ['text_encoders_clip_l_transformer_', 'te1', 'comfyui'],
  ['text_encoders_clip_g_transformer_', 'te2', 'comfyui'],
  ['text_encoders_clip_h_transformer_', 'te', 'comfyui'],
  ['clip_l_transformer_', 'te1', 'comfyui'],
  ['clip_g_transformer_', 'te2', 'comfyui'],
  ['model_diffusion_model_', 'unet', 'comfyui'],
  ['diffusion_model_', 'unet', 'comfyui'],
  ['text_encoder_2_', 'te2', 'diffusers'],
  ['text_encoder_', 'te1', 'diffusers'],
  ['te1_', 'te1', 'diffusers'],
  ['te2_', 'te2', 'diffusers'],
  ['unet_', 'unet', 'diffusers'],
];

/** `undefined` where the name belongs to no network that we know, or does not say to which. */
export function readModuleName(name: string): ModuleName | undefined {
  const underscored = name.replaceAll('.', '_');
  const whole = underscored.replace(/^(?:base_model_model_)+/, '');
  const isPeft = whole.length < underscored.length;
  const [prefix = '', component = 'unet', scheme = isPeft ? 'peft' : 'bare'] =
    PREFIXES.find(([start]) => whole.startsWith(start)) ?? [];
  // Early scripts of PEFT wrote it behind the network's name.
  const inner = whole.slice(prefix.length).replace(/^(?:base_model_model_)+/, '');
  if (component === 'unet') {
    const ldm = checkpointPath(inner);
    const isDiffusers = ldm !== undefined && ldm !== inner;
    const path = ldm ?? (isCheckpointPath(inner) ? inner : undefined);
    if (path === undefined) return undefined;
    return {
      scheme: scheme === 'kohya' && isDiffusers ? 'kohya-diffusers' : scheme,
      component,
      path,
      isHeadless: false,
    };
  }
  const isHeadless = /^(?:encoder_layers|embeddings|final_layer_norm)_/.test(inner);
  return { scheme, component, path: isHeadless ? `text_model_${inner}` : inner, isHeadless };
}

/** The name that kohya's trainers give the module: equal for equal modules, however a file spells them. */
export function kohyaName({ component, path }: ModuleName): string {
  return `lora_${component}_${path}`;
}

function isCheckpointPath(path: string): boolean {
  return /^(?:input_blocks_\d+|middle_block_\d+|output_blocks_\d+|time_embed|label_emb|out)(?:_|$)/.test(path);
}

/** Layers of a residual block: what diffusers and what the checkpoint call them. */
export const RESIDUAL: { readonly [leaf: string]: string } = {
  norm1: 'in_layers_0',
  conv1: 'in_layers_2',
  time_emb_proj: 'emb_layers_1',
  norm2: 'out_layers_0',
  conv2: 'out_layers_3',
  conv_shortcut: 'skip_connection',
};

/** What lies outside the blocks, likewise. */
export const OUTSIDE: { readonly [path: string]: string } = {
  conv_in: 'input_blocks_0_0',
  time_embedding_linear_1: 'time_embed_0',
  time_embedding_linear_2: 'time_embed_2',
  add_embedding_linear_1: 'label_emb_0_0',
  add_embedding_linear_2: 'label_emb_0_2',
  conv_norm_out: 'out_0',
  conv_out: 'out_2',
};

/** A path as diffusers has it, in the checkpoint's words; `undefined` for any other. */
function checkpointPath(diffusers: string): string | undefined {
  if (Object.hasOwn(OUTSIDE, diffusers)) return OUTSIDE[diffusers];
  const [, middle, place = '', rest = ''] = /^mid_block_(resnets|attentions)_(\d+)_(.+)$/.exec(diffusers) ?? [];
  if (middle === 'attentions') return `middle_block_1_${attentionLeaf(rest)}`;
  if (middle === 'resnets') return `middle_block_${2 * Number(place)}_${RESIDUAL[rest] ?? rest}`;
  const [, side, levelText, part, placeText, leaf = ''] =
    /^(down|up)_blocks_(\d+)_(resnets|attentions|downsamplers|upsamplers)_(\d+)_(.+)$/.exec(diffusers) ?? [];
  if (side === undefined) return undefined;
  const [level, at] = [Number(levelText), Number(placeText)];
  if (part === 'downsamplers') return `input_blocks_${3 + 3 * level}_0_op`;
  // Behind the attention. The one upsampler of Stable Diffusion 1 without attention before it stands at 1; blocks are the same.
  if (part === 'upsamplers') return `output_blocks_${2 + 3 * level}_2_conv`;
  const block = side === 'down' ? `input_blocks_${1 + 3 * level + at}` : `output_blocks_${3 * level + at}`;
  return part === 'resnets' ? `${block}_0_${RESIDUAL[leaf] ?? leaf}` : `${block}_1_${attentionLeaf(leaf)}`;
}

/** Old files name the processor of an attention instead of its layers, and the output layer without its number. */
function attentionLeaf(leaf: string): string {
  return leaf.replace('_processor_to_', '_to_').replace(/_to_out$/, '_to_out_0');
}
