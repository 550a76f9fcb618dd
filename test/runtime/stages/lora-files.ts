// Small LoRAs for tests.

import { fromNumbers } from '../../../src/runtime/safetensors/convert.ts';
import { type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';

export type Float = 'F16' | 'BF16' | 'F32';

export interface TinyModule {
  readonly name: string;
  readonly out?: number;
  readonly in?: number;
  readonly rank?: number;
  /** `null`: the file has none. */
  readonly alpha?: number | null;
  readonly kernel?: 1 | 3;
  readonly dtype?: Float;
  /** Every number of `up` times this. */
  readonly strength?: number;
}

export const OUT01 = 'lora_unet_output_blocks_1_0_in_layers_2';
export const IN04 = 'lora_unet_input_blocks_4_1_proj_in';
export const MID00 = 'lora_unet_middle_block_0_emb_layers_1';
export const TE1 = 'lora_te1_text_model_encoder_layers_0_mlp_fc1';
export const TE2 = 'lora_te2_text_model_encoder_layers_3_mlp_fc2';

/** One module in each of five places, the convolution with the kernel that it has in SDXL. */
export const fiveModules: readonly TinyModule[] = [
  { name: OUT01, kernel: 3 },
  { name: IN04 },
  { name: MID00 },
  { name: TE1 },
  { name: TE2 },
];

export const trainedMetadata: ReadonlyMap<string, string> = new Map([
  ['ss_base_model_version', 'sdxl_base_v1-0'],
  ['ss_network_dim', '4'],
  ['ss_network_alpha', '2'],
  ['ss_network_args', '{"conv_dim":"4","conv_alpha":"2","algo":"locon"}'],
  ['ss_output_name', 'before'],
  ['sshs_model_hash', 'stale'],
]);

export function tensorsOf(module: TinyModule, seed = 1): readonly TensorToWrite[] {
  const { name, out = 6, in: width = 5, rank = 4, alpha = 2, kernel, dtype = 'F16', strength = 1 } = module;
  const random = randomNumbers(seed + name.length * 131);
  const up = kernel === undefined ? [out, rank] : [out, rank, 1, 1];
  const down = kernel === undefined ? [rank, width] : [rank, width, kernel, kernel];
  return [
    ...(alpha === null ? [] : [tensor(`${name}.alpha`, dtype, [], [alpha])]),
    tensor(
      `${name}.lora_up.weight`,
      dtype,
      up,
      take(random, up).map((value) => value * strength),
    ),
    tensor(`${name}.lora_down.weight`, dtype, down, take(random, down)),
  ];
}

export function tensor(
  name: string,
  dtype: Float,
  shape: readonly number[],
  numbers: readonly number[],
): TensorToWrite {
  return { name, dtype, shape, source: { kind: 'bytes', bytes: fromNumbers(Float64Array.from(numbers), dtype) } };
}

export async function writeLora(
  path: string,
  content: readonly TinyModule[] = fiveModules,
  options: {
    readonly metadata?: ReadonlyMap<string, string> | undefined;
    readonly extra?: readonly TensorToWrite[];
  } = {},
): Promise<string> {
  const metadata = 'metadata' in options ? options.metadata : trainedMetadata;
  const tensors = [...content.flatMap((module, index) => tensorsOf(module, index + 1)), ...(options.extra ?? [])];
  await writeSafetensors({ path, tensors, metadata, hashes: false });
  return path;
}

function take(random: () => number, shape: readonly number[]): number[] {
  return Array.from({ length: shape.reduce((product, size) => product * size, 1) }, random);
}

/** Between -1 and 1, the same in every run. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}
