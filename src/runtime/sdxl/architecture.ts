// What model a checkpoint holds, read from the names and shapes of its tensors, or why it is none that can be trained.
//
// SDXL's plan never changes: three levels, two residual blocks each on the way down and three on the way up.
// Widths, depths, the context and the number of text layers are read, so a toy is as good as the published model.

export type Shapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

export const UNET = 'model.diffusion_model.';
export const TE1 = 'conditioner.embedders.0.transformer.';
export const TE2 = 'conditioner.embedders.1.model.';
export const VAE = 'first_stage_model.';

export interface Architecture {
  /** Widths and depths run from the finest level to the coarsest; depth 0 means no attention. */
  readonly unet: {
    readonly widths: readonly [number, number, number];
    readonly depths: readonly [number, number, number];
    readonly timeWidth: number;
    readonly contextWidth: number;
    /** Pooled text and six size embeddings of 256 values. */
    readonly vectorWidth: number;
  };
  readonly te1: TextEncoder;
  readonly te2: TextEncoder;
  readonly pooledWidth: number;
  readonly vae: { readonly widths: readonly number[] };
  readonly prediction: 'epsilon' | 'v';
  readonly zeroTerminalSnr: boolean;
}

export interface TextEncoder {
  readonly layers: number;
  readonly width: number;
  readonly mlpWidth: number;
}

/** Why tensors are not those of an SDXL checkpoint. `message` ends a sentence that begins with the file's name. */
export class NotSdxl extends Error {
  readonly hint: string;
  constructor(message: string, hint = 'lorac needs a whole SDXL checkpoint: UNet, both text encoders and VAE.') {
    super(message);
    this.hint = hint;
  }
}

const LEVELS = [0, 1, 2] as const;
const SIZE_VALUES = 6 * 256;

/** Throws `NotSdxl`. */
export function readArchitecture(tensors: Shapes, metadata: ReadonlyMap<string, string> | undefined): Architecture {
  refuseOtherKinds(tensors);
  const unet = readUnet(tensors);
  const te1 = readTe1(tensors);
  const te2 = readTe2(tensors);
  const [, pooledWidth = 0] = shapeOf(tensors, `${TE2}text_projection`, 2);
  if (unet.contextWidth !== te1.width + te2.width) {
    throw new NotSdxl(
      `has a UNet that reads text ${unet.contextWidth} values wide, and text encoders that give ${te1.width} + ${te2.width}`,
    );
  }
  if (unet.vectorWidth !== pooledWidth + SIZE_VALUES) {
    throw new NotSdxl(
      `has a UNet that reads a vector of ${unet.vectorWidth} values, and pooled text and sizes make ${pooledWidth} + ${SIZE_VALUES}`,
    );
  }
  return {
    unet,
    te1,
    te2,
    pooledWidth,
    vae: readVae(tensors),
    prediction: readPrediction(tensors, metadata),
    zeroTerminalSnr: tensors.has('ztsnr'),
  };
}

function refuseOtherKinds(tensors: Shapes): void {
  const names = [...tensors.keys()];
  const any = (test: (name: string) => boolean): boolean => names.some(test);
  if (names.length === 0) throw new NotSdxl('has no tensors');
  if (any((name) => /^(lora_|lycoris_)|\.(lora_(up|down|A|B)\.|hada_w|lokr_w|dora_scale)/.test(name))) {
    throw new NotSdxl('is a LoRA, and a checkpoint is needed', 'Name the checkpoint that the LoRA was made for.');
  }
  if (any((name) => name.startsWith('cond_stage_model.'))) {
    throw new NotSdxl(
      'is a Stable Diffusion 1 or 2 checkpoint, and SDXL is needed',
      'Name an SDXL checkpoint, such as Pony Diffusion V6 XL.',
    );
  }
  if (any((name) => name.startsWith('conditioner.embedders.0.model.'))) {
    throw new NotSdxl(
      'is an SDXL refiner, and the base model is needed',
      'The refiner has another shape; LoRAs are made for the base model.',
    );
  }
  if (tensors.has('edm_mean') || any((name) => name.startsWith('edm_vpred.'))) {
    throw new NotSdxl(
      'is an SDXL checkpoint of the EDM kind, whose noise follows another rule',
      'Name a checkpoint of the usual kind.',
    );
  }
  if (any((name) => /^(unet\.)?(down_blocks|up_blocks|mid_block)\./.test(name))) {
    throw new NotSdxl(
      'holds a UNet alone, as diffusers names it',
      'Name the folder that its "unet" folder lies in, or a checkpoint with everything in one file.',
    );
  }
  if (any((name) => name.startsWith('text_model.')) && !any((name) => name.startsWith(UNET))) {
    throw new NotSdxl('is a text encoder alone');
  }
  if (any((name) => /^(encoder|decoder)\.(conv_in|mid|down|up)/.test(name)) && !any((name) => name.startsWith(UNET))) {
    throw new NotSdxl('is a VAE alone');
  }
  if (!any((name) => name.startsWith(`${UNET}input_blocks.`))) {
    throw new NotSdxl(
      'is a model of another family, and SDXL is needed',
      'Name an SDXL checkpoint, such as Pony Diffusion V6 XL.',
    );
  }
}

function readUnet(tensors: Shapes): Architecture['unet'] {
  const [first = 0, channels = 0] = shapeOf(tensors, `${UNET}input_blocks.0.0.weight`, 4);
  if (channels !== 4) {
    const kind = { 9: 'an inpainting checkpoint', 8: 'an instruction-editing checkpoint' }[channels] ?? 'another model';
    throw new NotSdxl(
      `is ${kind}: its UNet takes ${channels} channels, and 4 are needed`,
      'Train on the base model; the LoRA works on its inpainting variants too.',
    );
  }
  for (const [side, what] of [
    ['input_blocks', 'input'],
    ['output_blocks', 'output'],
  ]) {
    const count = countOf(tensors, `${UNET}${side}.`);
    if (count !== 9) throw new NotSdxl(`has a UNet of ${count} ${what} blocks, and SDXL has 9`);
  }
  const widths = LEVELS.map(
    (level) => shapeOf(tensors, `${UNET}input_blocks.${1 + 3 * level}.0.out_layers.3.weight`, 4)[0] ?? 0,
  );
  if (first !== widths[0])
    throw new NotSdxl(`has a UNet that begins ${first} channels wide and goes on with ${widths[0]}`);
  const depths = LEVELS.map((level) => depthOf(tensors, level));
  const attention = depths.findIndex((depth) => depth > 0);
  if (attention < 0 || depths[2] === 0) throw new NotSdxl('has a UNet without attention at its coarsest level');
  const block = `${UNET}input_blocks.${1 + 3 * attention}.1.transformer_blocks.0`;
  return {
    widths: [widths[0] ?? 0, widths[1] ?? 0, widths[2] ?? 0],
    depths: [depths[0] ?? 0, depths[1] ?? 0, depths[2] ?? 0],
    timeWidth: shapeOf(tensors, `${UNET}time_embed.0.weight`, 2)[0] ?? 0,
    contextWidth: shapeOf(tensors, `${block}.attn2.to_k.weight`, 2)[1] ?? 0,
    vectorWidth: shapeOf(tensors, `${UNET}label_emb.0.0.weight`, 2)[1] ?? 0,
  };
}

/** Transformer blocks of each attention of a level. SDXL has as many in all of them; distilled models do not. */
function depthOf(tensors: Shapes, level: number): number {
  const places = [0, 1].map((place) => `input_blocks.${1 + 3 * level + place}.1`);
  places.push(...[0, 1, 2].map((place) => `output_blocks.${3 * (2 - level) + place}.1`));
  if (level === 2) places.push('middle_block.1');
  const depths = places.map((place) => countOf(tensors, `${UNET}${place}.transformer_blocks.`));
  const other = depths.findIndex((depth) => depth !== depths[0]);
  if (other > 0) {
    throw new NotSdxl(
      `has ${depths[0]} transformer blocks in ${places[0]} and ${depths[other]} in ${places[other]}, as pruned models do; SDXL has equally many`,
    );
  }
  return depths[0] ?? 0;
}

function readTe1(tensors: Shapes): TextEncoder {
  const root = te1Root(tensors);
  const [, width = 0] = shapeOf(tensors, `${root}embeddings.token_embedding.weight`, 2);
  const [mlpWidth = 0] = shapeOf(tensors, `${root}encoder.layers.0.mlp.fc1.weight`, 2);
  return { layers: countOf(tensors, `${root}encoder.layers.`), width, mlpWidth };
}

/** Files that a recent transformers wrote lack the inner name. */
export function te1Root(tensors: Shapes): string {
  const inner = `${TE1}text_model.`;
  for (const name of tensors.keys()) if (name.startsWith(inner)) return inner;
  return TE1;
}

function readTe2(tensors: Shapes): TextEncoder {
  const [, width = 0] = shapeOf(tensors, `${TE2}token_embedding.weight`, 2);
  const [mlpWidth = 0] = shapeOf(tensors, `${TE2}transformer.resblocks.0.mlp.c_fc.weight`, 2);
  return { layers: countOf(tensors, `${TE2}transformer.resblocks.`), width, mlpWidth };
}

function readVae(tensors: Shapes): Architecture['vae'] {
  const levels = countOf(tensors, `${VAE}encoder.down.`);
  if (levels === 0) throw new NotSdxl('has no VAE inside');
  if (levels !== 4) throw new NotSdxl(`has a VAE of ${levels} levels, and 4 are needed`);
  const [latents] = shapeOf(tensors, `${VAE}post_quant_conv.weight`, 4);
  if (latents !== 4) throw new NotSdxl(`has a VAE of ${latents} latent channels, and 4 are needed`);
  shapeOf(tensors, `${VAE}decoder.conv_in.weight`, 4);
  const width = (level: number): number =>
    shapeOf(tensors, `${VAE}encoder.down.${level}.block.0.conv1.weight`, 4)[0] ?? 0;
  return { widths: [0, 1, 2, 3].map(width) };
}

/** An empty tensor named `v_pred` is how such checkpoints are marked; some tools write metadata instead. */
function readPrediction(tensors: Shapes, metadata: ReadonlyMap<string, string> | undefined): 'epsilon' | 'v' {
  const stated = metadata?.get('modelspec.prediction_type')?.toLowerCase() ?? '';
  return tensors.has('v_pred') || ['v', 'v_prediction', 'v-prediction'].includes(stated) ? 'v' : 'epsilon';
}

function shapeOf(tensors: Shapes, name: string, dimensions: number): readonly number[] {
  const shape = tensors.get(name)?.shape;
  if (shape === undefined) throw new NotSdxl(`lacks the tensor "${name}" that every SDXL checkpoint has`);
  if (shape.length !== dimensions) {
    throw new NotSdxl(`has "${name}" in the shape [${shape}], and ${dimensions} dimensions were expected`);
  }
  return shape;
}

/** How many consecutive numbers, from 0, follow a prefix. */
function countOf(tensors: Shapes, prefix: string): number {
  const found = new Set<number>();
  for (const name of tensors.keys()) {
    if (name.startsWith(prefix)) found.add(Number.parseInt(name.slice(prefix.length), 10));
  }
  for (let index = 0; index < found.size; index += 1) {
    if (!found.has(index)) throw new NotSdxl(`lacks number ${index} of the tensors "${prefix}…"`);
  }
  return found.size;
}
