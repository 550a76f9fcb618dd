// What the configuration of a diffusers folder's scheduler tells of the model: what it predicts, and its noise.

import { readFile } from 'node:fs/promises';
import { type Architecture, NotSdxl } from '../sdxl/architecture.ts';

type Process = Pick<Architecture, 'prediction' | 'zeroTerminalSnr'>;

/** Throws `NotSdxl` for a model that cannot be trained, and for a file that is no configuration. */
export async function readScheduler(path: string): Promise<Process> {
  const config = parseConfig(await readFile(path, 'utf8'));
  if (config === undefined) {
    throw new NotSdxl('has a scheduler/scheduler_config.json that cannot be read', 'Fetch that file again.');
  }
  const kind = typeof config._class_name === 'string' ? config._class_name : '';
  if (kind.startsWith('EDM')) {
    throw new NotSdxl(
      'is an SDXL model of the EDM kind, whose noise follows another rule',
      'Name a model of the usual kind.',
    );
  }
  const { prediction_type: predicted = 'epsilon' } = config;
  if (predicted !== 'epsilon' && predicted !== 'v_prediction') {
    throw new NotSdxl(
      `predicts ${JSON.stringify(predicted)} by its scheduler/scheduler_config.json, and epsilon or v_prediction is needed`,
      'Name a model that predicts the noise or the velocity.',
    );
  }
  return {
    prediction: predicted === 'epsilon' ? 'epsilon' : 'v',
    zeroTerminalSnr: config.rescale_betas_zero_snr === true,
  };
}

function parseConfig(text: string): { readonly [name: string]: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? (value as { readonly [name: string]: unknown }) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
