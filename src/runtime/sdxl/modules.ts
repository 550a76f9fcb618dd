// The rule that lists what a LoRA of preset `full` adapts: 788 modules of the UNet and 264 of the text encoders in SDXL.
// Names come from the plan of the network, never from a file, so that they are the ones that the field knows.

import { type Architecture, NotSdxl, type Shapes, TE2, type TextEncoder, te1Root, UNET } from './architecture.ts';

export interface LoraTarget {
  /** The name in LoRA files, without suffix. */
  readonly name: string;
  /** The weight in the checkpoint. */
  readonly ldmKey: string;
  /** Where several modules share a tensor: the first row and the one after the last. */
  readonly ldmRows: readonly [number, number] | undefined;
  /** The module's path inside diffusers' component. */
  readonly diffusersKey: string;
  readonly kind: 'linear' | 'conv1x1' | 'conv3x3';
  readonly in: number;
  readonly out: number;
  /** Of convolutions; 1 and 0 for linear modules. */
  readonly stride: number;
  readonly padding: number;
  /** `input_blocks.4`, `middle_block.1`, `te1.layers.0`. */
  readonly block: string;
}

/** In the order of the network: UNet, text encoder 1, text encoder 2. */
export function loraTargets(architecture: Architecture): readonly LoraTarget[] {
  return [
    ...unetTargets(architecture.unet),
    ...textTargets(architecture.te1, 'te1'),
    ...textTargets(architecture.te2, 'te2'),
  ];
}

/** Throws `NotSdxl` when a weight that a LoRA would adapt is missing from the checkpoint or has another shape. */
export function checkTargets(targets: readonly LoraTarget[], tensors: Shapes): void {
  const root = te1Root(tensors);
  for (const target of targets) {
    const key = target.ldmKey.replace(/^conditioner\.embedders\.0\.transformer\.text_model\./, root);
    const shape = tensors.get(key)?.shape;
    if (shape === undefined) throw new NotSdxl(`lacks the tensor "${key}" that every SDXL checkpoint has`);
    const rows = target.ldmRows === undefined ? target.out : 3 * target.out;
    const kernel = { linear: [], conv1x1: [1, 1], conv3x3: [3, 3] }[target.kind];
    const wanted = [rows, target.in, ...kernel];
    if (`${shape}` !== `${wanted}`)
      throw new NotSdxl(`has "${key}" in the shape [${shape}], and [${wanted}] was expected`);
  }
}

type Unet = Architecture['unet'];

function* unetTargets(unet: Unet): Generator<LoraTarget> {
  const [fine] = unet.widths;
  let width = fine;
  // What the way down hands over to the way up, the last first.
  const skips = [fine];
  for (const level of [0, 1, 2]) {
    for (const place of [0, 1]) {
      const block = `input_blocks.${1 + 3 * level + place}`;
      const diffusers = `down_blocks.${level}`;
      yield* residual(unet, {
        block,
        part: `${block}.0`,
        diffusers: `${diffusers}.resnets.${place}`,
        in: width,
        level,
      });
      width = unet.widths[level] ?? 0;
      yield* attention(unet, { block, part: `${block}.1`, diffusers: `${diffusers}.attentions.${place}`, level });
      skips.push(width);
    }
    if (level < 2) {
      const block = `input_blocks.${3 + 3 * level}`;
      yield convolution({
        block,
        path: `${block}.0.op`,
        diffusers: `down_blocks.${level}.downsamplers.0.conv`,
        in: width,
        out: width,
        stride: 2,
      });
      skips.push(width);
    }
  }
  yield* residual(unet, {
    block: 'middle_block.0',
    part: 'middle_block.0',
    diffusers: 'mid_block.resnets.0',
    in: width,
    level: 2,
  });
  yield* attention(unet, {
    block: 'middle_block.1',
    part: 'middle_block.1',
    diffusers: 'mid_block.attentions.0',
    level: 2,
  });
  yield* residual(unet, {
    block: 'middle_block.2',
    part: 'middle_block.2',
    diffusers: 'mid_block.resnets.1',
    in: width,
    level: 2,
  });
  for (const step of [0, 1, 2]) {
    const level = 2 - step;
    for (const place of [0, 1, 2]) {
      const block = `output_blocks.${3 * step + place}`;
      const diffusers = `up_blocks.${step}`;
      const joined = width + (skips.pop() ?? 0);
      yield* residual(unet, {
        block,
        part: `${block}.0`,
        diffusers: `${diffusers}.resnets.${place}`,
        in: joined,
        level,
      });
      width = unet.widths[level] ?? 0;
      yield* attention(unet, { block, part: `${block}.1`, diffusers: `${diffusers}.attentions.${place}`, level });
      if (place === 2 && level > 0) {
        // The upsampler stands behind the attention, where there is one.
        const path = `${block}.${unet.depths[level] === 0 ? 1 : 2}.conv`;
        yield convolution({
          block,
          path,
          diffusers: `${diffusers}.upsamplers.0.conv`,
          in: width,
          out: width,
          stride: 1,
        });
      }
    }
  }
}

interface Part {
  readonly block: string;
  readonly part: string;
  readonly diffusers: string;
  readonly level: number;
}

function* residual(
  unet: Unet,
  { block, part, diffusers, level, in: width }: Part & { readonly in: number },
): Generator<LoraTarget> {
  const out = unet.widths[level] ?? 0;
  yield convolution({ block, path: `${part}.in_layers.2`, diffusers: `${diffusers}.conv1`, in: width, out, stride: 1 });
  yield linear({
    block,
    path: `${part}.emb_layers.1`,
    diffusers: `${diffusers}.time_emb_proj`,
    in: unet.timeWidth,
    out,
  });
  yield convolution({ block, path: `${part}.out_layers.3`, diffusers: `${diffusers}.conv2`, in: out, out, stride: 1 });
  if (width !== out) {
    const skip = linear({
      block,
      path: `${part}.skip_connection`,
      diffusers: `${diffusers}.conv_shortcut`,
      in: width,
      out,
    });
    yield { ...skip, kind: 'conv1x1' };
  }
}

function* attention(unet: Unet, { block, part, diffusers, level }: Part): Generator<LoraTarget> {
  const width = unet.widths[level] ?? 0;
  const depth = unet.depths[level] ?? 0;
  if (depth === 0) return;
  const layer = (name: string, from: number, to: number): LoraTarget =>
    linear({ block, path: `${part}.${name}`, diffusers: `${diffusers}.${name}`, in: from, out: to });
  yield layer('proj_in', width, width);
  for (let index = 0; index < depth; index += 1) {
    const inner = `transformer_blocks.${index}`;
    for (const name of ['to_q', 'to_k', 'to_v', 'to_out.0']) yield layer(`${inner}.attn1.${name}`, width, width);
    yield layer(`${inner}.ff.net.0.proj`, width, 8 * width);
    yield layer(`${inner}.ff.net.2`, 4 * width, width);
    yield layer(`${inner}.attn2.to_q`, width, width);
    for (const name of ['to_k', 'to_v']) yield layer(`${inner}.attn2.${name}`, unet.contextWidth, width);
    yield layer(`${inner}.attn2.to_out.0`, width, width);
  }
  yield layer('proj_out', width, width);
}

interface Place {
  readonly block: string;
  /** Below the UNet, in the checkpoint. */
  readonly path: string;
  readonly diffusers: string;
  readonly in: number;
  readonly out: number;
}

function linear({ block, path, diffusers, in: from, out }: Place): LoraTarget {
  return {
    name: `lora_unet_${path.replaceAll('.', '_')}`,
    ldmKey: `${UNET}${path}.weight`,
    ldmRows: undefined,
    diffusersKey: diffusers,
    kind: 'linear',
    in: from,
    out,
    stride: 1,
    padding: 0,
    block,
  };
}

function convolution(place: Place & { readonly stride: number }): LoraTarget {
  return { ...linear(place), kind: 'conv3x3', stride: place.stride, padding: 1 };
}

function* textTargets(text: TextEncoder, component: 'te1' | 'te2'): Generator<LoraTarget> {
  const { width, mlpWidth } = text;
  for (let layer = 0; layer < text.layers; layer += 1) {
    for (const module of [
      'self_attn.k_proj',
      'self_attn.v_proj',
      'self_attn.q_proj',
      'self_attn.out_proj',
      'mlp.fc1',
      'mlp.fc2',
    ]) {
      const path = `text_model.encoder.layers.${layer}.${module}`;
      yield {
        name: `lora_${component}_${path.replaceAll('.', '_')}`,
        ...(component === 'te1'
          ? { ldmKey: `conditioner.embedders.0.transformer.${path}.weight`, ldmRows: undefined }
          : openClipSource(layer, module, width)),
        diffusersKey: path,
        kind: 'linear',
        in: module === 'mlp.fc2' ? mlpWidth : width,
        out: module === 'mlp.fc1' ? mlpWidth : width,
        stride: 1,
        padding: 0,
        block: `${component}.layers.${layer}`,
      };
    }
  }
}

/** OpenCLIP keeps query, key and value in one tensor, in this order. */
function openClipSource(layer: number, module: string, width: number): Pick<LoraTarget, 'ldmKey' | 'ldmRows'> {
  const block = `${TE2}transformer.resblocks.${layer}`;
  const third = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'].indexOf(module);
  if (third >= 0) return { ldmKey: `${block}.attn.in_proj_weight`, ldmRows: [third * width, (third + 1) * width] };
  const name = { 'self_attn.out_proj': 'attn.out_proj', 'mlp.fc1': 'mlp.c_fc', 'mlp.fc2': 'mlp.c_proj' }[module];
  return { ldmKey: `${block}.${name}.weight`, ldmRows: undefined };
}
