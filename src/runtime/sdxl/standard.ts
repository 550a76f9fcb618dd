// SDXL as it was published: what the modules of a LoRA are held against where no checkpoint is at hand.

import type { Architecture } from './architecture.ts';
import { type LoraTarget, loraTargets } from './modules.ts';

export const SDXL: Architecture = {
  unet: { widths: [320, 640, 1280], depths: [0, 2, 10], timeWidth: 1280, contextWidth: 2048, vectorWidth: 2816 },
  te1: { layers: 12, width: 768, mlpWidth: 3072 },
  te2: { layers: 32, width: 1280, mlpWidth: 5120 },
  pooledWidth: 1280,
  vae: { widths: [128, 256, 512, 512] },
  prediction: 'epsilon',
  zeroTerminalSnr: false,
};

/** What preset `full` adapts in SDXL, by kohya's name. */
export function sdxlTargets(): ReadonlyMap<string, LoraTarget> {
  return new Map(loraTargets(SDXL).map((target) => [target.name, target]));
}
