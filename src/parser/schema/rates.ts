// The rows of the schema table for optimizers and for how learning rates change.

import {
  boolean,
  freeArguments,
  integer,
  layerNumbers,
  number,
  optional,
  pair,
  positive,
  preset,
  required,
  schedule,
  stepsOrShare,
  tagged,
  text,
  triple,
  words,
} from './types.ts';

const beta = number({ min: 0, max: 1, openMax: true });

const betas = (second: number) =>
  preset(pair(beta), [0.9, second], 'Decay of the two running averages.', { synonyms: ['beta', 'adam_betas'] });

const eps = preset(positive(), 1e-8, 'Added to the denominator of the update.', {
  synonyms: ['epsilon', 'adam_epsilon'],
});

const weightDecay = (amount: number) =>
  preset(number({ min: 0 }), amount, 'Pull of the weights towards zero, by this times the rate in each step.', {
    synonyms: ['wd', 'decay'],
  });

const adamW = { betas: betas(0.999), eps, weight_decay: weightDecay(0.01) };

export const optimizer = tagged({
  SAVEUS: {
    betas: preset(pair(number({ min: 0, max: 1, openMax: true })), [0.9, 0.999], 'Decay of the two running averages.', {
      synonyms: ['beta', 'adam_betas'],
    }),
    eps: preset(positive(), 1e-8, 'Added to the denominator of the update.', { synonyms: ['epsilon', 'adam_epsilon'] }),
    weight_decay: preset(number({ min: 0 }), 0, 'Pull of the weights towards zero.', { synonyms: ['wd', 'decay'] }),
    decouple_weight_decay: preset(boolean(), false, 'Decay the weights themselves, not through the gradient.', {
      synonyms: ['decouple', 'decoupled_weight_decay', 'weight_decouple'],
    }),
    centralization: preset(
      number({ min: 0, max: 1 }),
      0.5,
      'How much of the mean of each row is taken out of the gradient.',
      { synonyms: ['centralize', 'gradient_centralization', 'use_gc'] },
    ),
    normalization: preset(
      number({ min: 0, max: 1 }),
      0.5,
      'How far the gradient is divided by its standard deviation. Above 0 it is divided fully, as published, unless normalization_mode is lerp.',
      { synonyms: ['normalize'] },
    ),
    normalization_mode: preset(
      words('full', 'lerp'),
      'full',
      'full: any normalization above 0 counts as 1, as the published optimizer does. lerp: interpolate, as it documents.',
    ),
    normalize_channels: preset(boolean(), true, 'Take the standard deviation of each row, not of the whole tensor.', {
      synonyms: ['channel_wise', 'use_channels'],
    }),
    amp_fac: preset(number(), 2, 'How much of the running average is added to the gradient.', {
      synonyms: ['amplification', 'amp_factor', 'alpha_grad'],
    }),
    clip_gradients: preset(boolean(), false, 'Clip each gradient to clip_lambda, in both directions.', {
      synonyms: ['clip', 'clipping'],
    }),
    clip_lambda: preset(
      schedule(),
      { op: '**', left: 'step', right: 0.25 },
      'Where gradients are clipped when clip_gradients is on: arithmetic over step, which counts from 1.',
      { synonyms: ['clip_value', 'clip_threshold'] },
    ),
  },
  AdamW: adamW,
  AdamW8bit: adamW,
  Adafactor: {
    eps: preset(
      pair(positive()),
      [1e-30, 1e-3],
      'Added to squares of the gradient, and the least size of a weight for scale_parameter.',
    ),
    clip_threshold: preset(positive(), 1, 'Updates of a larger root mean square are shortened to it.'),
    decay_rate: preset(
      number({ min: -10, max: 0 }),
      -0.8,
      'The average of squares forgets ever less: 1 - step ** decay_rate.',
    ),
    beta1: optional(beta, 'Decay of an average of the updates. Without it there is none, which saves memory.'),
    weight_decay: weightDecay(0),
    scale_parameter: preset(boolean(), false, 'Multiply the rates by the root mean square of each weight.'),
  },
  Prodigy: {
    betas: betas(0.999),
    beta3: optional(beta, 'Decay of what the rate is estimated from. Without it the root of the second beta.', {
      synonyms: ['prodigy_beta3'],
    }),
    eps,
    weight_decay: weightDecay(0),
    decouple_weight_decay: preset(boolean(), true, 'Decay the weights themselves, not through the gradient.', {
      synonyms: ['decouple', 'weight_decouple'],
    }),
    use_bias_correction: preset(boolean(), false, 'Correct the averages of the first steps.', {
      synonyms: ['bias_correction'],
    }),
    safeguard_warmup: preset(boolean(), false, 'Keep a warm-up from raising the estimate.'),
    d0: preset(positive(), 1e-6, 'The first estimate of the rate.'),
    d_coef: preset(positive(), 1, 'Factor of the estimate: above 1 for higher rates.'),
    growth_rate: optional(
      number({ min: 1, openMin: true }),
      'How much the estimate may grow in a step. Without it at will.',
    ),
  },
  Lion: { betas: betas(0.99), weight_decay: weightDecay(0) },
  CAME: {
    betas: preset(
      triple(beta),
      [0.9, 0.999, 0.9999],
      'Decay of the averages of updates, of squares and of confidence.',
    ),
    eps: preset(pair(positive()), [1e-30, 1e-16], 'Added to squares of the gradient, and of what the update misses.'),
    clip_threshold: preset(positive(), 1, 'Updates of a larger root mean square are shortened to it.'),
    weight_decay: weightDecay(0),
  },
  python: {
    class: required(text(), 'Where an optimizer of torch is imported from: "package.module.Class".', {
      synonyms: ['name', 'path', 'optimizer_type'],
    }),
    args: optional(
      freeArguments(),
      'What it is constructed with besides rates: args = { betas = [0.9, 0.99]  amsgrad = true }. Lists become tuples, none is None.',
      { synonyms: ['arguments', 'optimizer_args', 'kwargs'] },
    ),
  },
});

const warmup = preset(
  stepsOrShare(),
  0,
  'Steps in which the rates rise from 0: so many, or a share of all steps such as 0.1 or "10%".',
  { synonyms: ['lr_warmup_steps', 'warmup_steps', 'num_warmup_steps', 'warmup_ratio', 'lr_warmup', 'lr_warmup_ratio'] },
);

const leastRatio = (least: number) =>
  preset(number({ min: 0, max: 1 }), least, 'The smallest factor of the rates.', {
    synonyms: ['lr_scheduler_min_lr_ratio', 'min_lr_rate', 'min_lr'],
  });

const waves = (count: number, doc: string) =>
  preset(positive(), count, doc, { synonyms: ['lr_scheduler_num_cycles', 'cycles'] });

export const lrScheduler = tagged({
  cosine: {
    num_cycles: waves(0.375, 'Cosine waves over the whole training: 0.5 ends at zero, 0.375 at 15 % of the rate.'),
    warmup,
  },
  constant: {},
  constant_with_warmup: { warmup },
  linear: { warmup },
  cosine_with_restarts: {
    num_cycles: preset(integer({ min: 1, max: 10_000 }), 1, 'How often the rates fall from full to zero.', {
      synonyms: ['lr_scheduler_num_cycles', 'cycles', 'restarts'],
    }),
    warmup,
  },
  polynomial: {
    power: preset(positive(), 1, 'Above 1 the rates fall early, below 1 late.', {
      synonyms: ['lr_scheduler_power'],
    }),
    lr_end: preset(number({ min: 0 }), 1e-7, 'The rate at the end, the same for everything that is trained.', {
      synonyms: ['end_lr'],
    }),
    warmup,
  },
  inverse_sqrt: {
    timescale: optional(
      integer({ min: 1 }),
      'Steps behind the warm-up after which the rates are 0.71 of the full ones. Without it as many as the warm-up has, or 10000.',
      { synonyms: ['lr_scheduler_timescale'] },
    ),
    warmup,
  },
  cosine_with_min_lr: {
    min_lr_ratio: leastRatio(0.1),
    num_cycles: waves(
      0.5,
      'Cosine waves behind the warm-up: 0.5 ends at min_lr_ratio. It is half of lr_scheduler_num_cycles.',
    ),
    warmup,
  },
  warmup_stable_decay: {
    decay: preset(
      stepsOrShare(),
      0.1,
      'Steps at the end in which the rates fall: so many, or a share of all steps such as 0.1 or "10%".',
      { synonyms: ['lr_decay_steps', 'decay_steps', 'num_decay_steps'] },
    ),
    decay_type: preset(words('linear', 'cosine', '1-sqrt'), 'cosine', 'The shape of the fall.'),
    warmup_type: preset(words('linear', 'cosine', '1-sqrt'), 'linear', 'The shape of the rise.'),
    min_lr_ratio: leastRatio(0),
    num_cycles: waves(0.5, 'Cosine waves of the fall. It is half of lr_scheduler_num_cycles.'),
    warmup,
  },
  piecewise_constant: {
    step_rules: required(
      text(),
      'Factors and the steps that they end before, then the last factor: "1:10,0.1:20,0.01".',
      { synonyms: ['rules'] },
    ),
  },
  adafactor: {
    warmup_init: preset(
      boolean(),
      false,
      'Begin with 1e-6 and rise by that in each step, in place of 1e-2, until the root falls below it.',
      { synonyms: ['relative_step_warmup'] },
    ),
  },
  python: {
    class: required(text(), 'Where a schedule of torch is imported from: "torch.optim.lr_scheduler.OneCycleLR".', {
      synonyms: ['name', 'path', 'lr_scheduler_type'],
    }),
    args: optional(
      freeArguments(),
      'What it is constructed with besides the optimizer: args = { max_lr = 1e-3  total_steps = 80 }. Lists become tuples, none is None.',
      { synonyms: ['arguments', 'lr_scheduler_args', 'kwargs'] },
    ),
  },
});

/** What is trained, and how fast beside the rest. */
export const shares = {
  train_unet: preset(boolean(), true, 'Train the UNet. false is the same as unet_lr = 0.'),
  train_text_encoder: preset(boolean(), true, 'Train the text encoders. false is the same as text_encoder_lr = 0.', {
    synonyms: ['train_text_encoders', 'train_te'],
  }),
  loraplus_lr_ratio: preset(positive(), 1, 'LoRA+: the rates of up matrices are this times those of down matrices.', {
    synonyms: ['loraplus', 'loraplus_ratio', 'lora_plus_ratio'],
  }),
  block_lr: preset(
    layerNumbers(number({ min: 0 })),
    {},
    'Factors of the rates by block, such as { OUT01 = 0.5  "TE2.1*" = 0 }, or by layer: "*_attn2_to_k" = 2. With 0 a layer keeps what it began with, which changes nothing.',
    { synonyms: ['block_lrs', 'block_lr_weight', 'lr_by_block', 'network_reg_lrs'] },
  ),
};
