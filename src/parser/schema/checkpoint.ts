// The rows of the schema table for checkpoints.

import { preset, required, text, words } from './types.ts';

export const checkpoint = {
  path: required(
    text('path'),
    'An SDXL checkpoint: one .safetensors file, or the folder of a diffusers model (or its model_index.json).',
    {
      synonyms: [
        'pretrained_model_name_or_path',
        'model',
        'model_path',
        'file',
        'ckpt',
        'name_or_path',
        'base_model_name',
      ],
    },
  ),
  prediction: preset(
    words('auto', 'epsilon', 'v'),
    'auto',
    "What its UNet predicts: the noise (epsilon) or the velocity (v). auto: what the file, or the configuration of a folder's scheduler, says, and noise where it says nothing.",
    { synonyms: ['prediction_type', 'v_parameterization', 'parameterization', 'v_pred'] },
  ),
  zero_terminal_snr: preset(
    words('auto', 'on', 'off'),
    'auto',
    "Whether its noise schedule ends in pure noise. auto: what the file, or the configuration of a folder's scheduler, says, and not where it says nothing.",
    { synonyms: [...['ztsnr', 'zero_snr', 'rescale_betas_zero_snr'], 'rescale_noise_scheduler_to_zero_terminal_snr'] },
  ),
};
