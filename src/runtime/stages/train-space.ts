// How much a training is going to write: the LoRAs it saves and the states it can go on from.

import type { BaseFiles } from '../graph/model-folder.ts';
import { openModel } from '../model/model-tensors.ts';
import { type LoraTarget, loraTargets } from '../sdxl/modules.ts';
import type { Train } from '../worker/protocol.ts';
import type { SpaceNeeded } from './check-space.ts';

/** The weights, and two moments of each. With an average of the weights there is one more. */
const NUMBERS_PER_PARAMETER = 3;
/** Two are kept, and a third is there while it replaces the older one. */
const STATES = 3;
const BYTES = { fp16: 2, bf16: 2, fp32: 4 } as const;
/** What a tensor takes in the header, with its alpha. */
const HEADER_BYTES_PER_MODULE = 450;

export async function trainingSpace(
  base: BaseFiles,
  { settings, save_steps }: Pick<Train, 'settings' | 'save_steps'>,
): Promise<SpaceNeeded['parts']> {
  const { parameters, modules } = await networkSize(base, settings.network);
  const loraBytes = parameters * BYTES[settings.save_precision] + modules * HEADER_BYTES_PER_MODULE;
  const averages = settings.ema === undefined ? 0 : 1;
  const loras = save_steps.length + 1 + averages;
  const numbers = NUMBERS_PER_PARAMETER + averages;
  return [
    { what: loras === 1 ? 'the LoRA' : `${loras} saved LoRAs`, bytes: loras * loraBytes },
    { what: `${STATES} states to go on from`, bytes: STATES * numbers * 4 * parameters },
  ];
}

async function networkSize(base: BaseFiles, network: Train['settings']['network']) {
  await using model = await openModel(base);
  const targets = loraTargets(await model.architecture());
  const chosen = targets.filter(({ name }) => name.startsWith('lora_unet_') || network.preset !== 'unet-only');
  const parameters = chosen.reduce((sum, target) => sum + parametersOf(target, network), 0);
  return { parameters, modules: chosen.length };
}

/** At most. What other presets and patterns leave out is counted as well. */
function parametersOf({ kind, in: into, out }: LoraTarget, network: Train['settings']['network']): number {
  const isConvolution = kind === 'conv3x3';
  const area = isConvolution ? 9 : 1;
  if (network.kind === 'full') return out * into * area + out;
  const { dim, conv_dim, dims, conv_dims } = network;
  const rank = isConvolution ? Math.max(conv_dim, ...Object.values(conv_dims)) : Math.max(dim, ...Object.values(dims));
  const pair = rank * (area * into + out);
  // A Kronecker factor that is kept whole is at most the weight divided by what the other one has.
  if (network.kind === 'lokr' && network.full_matrix) {
    const factor = network.factor === 'balanced' ? Math.sqrt(Math.min(into, out)) / 2 : network.factor;
    return Math.ceil((out * into * area) / factor) + out + into;
  }
  return (network.kind === 'loha' ? 2 : 1) * pair + (network.kind === 'dora' ? out : 0);
}
