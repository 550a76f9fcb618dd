// The rows of the schema table for optimizers and for how learning rates change.

import {
  boolean,
  integer,
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
  words,
} from './schema-types.ts';

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
});
