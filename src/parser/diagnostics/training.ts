// Problems with settings of a training that do not go together, sorted by code.

import type { Span } from '../source.ts';
import { type Diagnostic, error, replace, warning } from './diagnostic.ts';

export function batchesOfRegularization(span: Span, written: Span | undefined): Diagnostic {
  return error('batches-of-regularization', span, {
    message: 'With regularization images, batches cannot be cut as sd-scripts cuts them.',
    hint: 'Write accumulation = images',
    fix: written && replace(written, 'images'),
  });
}

export function coarseWeights(span: Span, precision: Span): Diagnostic {
  return warning('coarse-weights', span, {
    message:
      'Frozen weights of 8 bits are off by some percent, so computing with 32 bits costs memory and gains nothing.',
    related: [{ message: 'The precision is written here', span: precision }],
    hint: 'Write mixed_precision = bf16, or leave "fp8_base" out.',
  });
}

export function heldOutImages(span: Span): Diagnostic {
  return error('held-out-images', span, {
    message: '"data" and "share" both say which images are held out.',
    hint: 'Keep one of them.',
  });
}

export function heldOutLearned(span: Span, dataset: string): Diagnostic {
  return error('held-out-learned', span, {
    message: `"${dataset}" is what the training learns from, so measuring with it would tell nothing.`,
    hint: 'Write share = 0.1 to hold a tenth of its images out.',
  });
}

export function bothPredictions(span: Span, other: Span): Diagnostic {
  return error('both-predictions', span, {
    message:
      '"v_pred_like_loss" is for checkpoints that predict noise, and "scale_v_pred_loss_like_noise_pred" for those that predict v.',
    related: [{ message: 'The other is written here', span: other }],
    hint: 'Keep the one that fits the checkpoint.',
  });
}

export function idleCompile(span: Span, network: Span): Diagnostic {
  return warning('idle-compile', span, {
    message: 'A network with dropouts is not compiled: what it leaves out is drawn anew at each step.',
    related: [{ message: 'The dropouts are written here', span: network }],
    hint: 'Leave the dropouts out, or "compile".',
  });
}

export function idlePriorWeight(span: Span): Diagnostic {
  return warning('idle-prior-weight', span, {
    message: '"prior_loss_weight" weighs regularization images, and the training has none.',
    hint: 'Name a dataset of them: regularization = …, or leave "prior_loss_weight" out.',
  });
}

export function oddRendezvous(span: Span, machines: number, written: string | undefined): Diagnostic {
  const example = 'rendezvous = "192.168.1.20:29400"';
  if (machines === 1)
    return error('odd-rendezvous', span, {
      message: '"rendezvous" is where machines meet, and only one takes part.',
      hint: 'Say how many there are: machines = 2, or leave "rendezvous" out.',
    });
  return error('odd-rendezvous', span, {
    message:
      written === undefined
        ? `${machines} machines take part, and "rendezvous" does not say where they meet.`
        : `"rendezvous" is "${written}", which is not a host and a port.`,
    hint: `Write how the others reach this machine, with a free port: ${example}`,
  });
}

export function sameImages(span: Span, dataset: string, data: Span): Diagnostic {
  return error('same-images', span, {
    message: `"${dataset}" is what is learned, and cannot be what is kept as it was.`,
    related: [{ message: 'It is learned from here', span: data }],
    hint: 'Regularization needs a dataset of its own.',
  });
}

export function noStrength(span: Span, name: string, of: string): Diagnostic {
  return error('no-strength', span, {
    message: `"${name}" changes the strength of "${of}", and that is 0.`,
    hint: `Write ${of} = ${of === 'noise_offset' ? 0.05 : 0.1} as well, or leave this out.`,
  });
}

const whyNoNorms = {
  dora: 'a DoRA learns the lengths of its rows, so the length of what it adds says little',
  loha: 'the length of a product of products is not to be had without making the whole weight',
  full: 'a whole weight has no factors',
} as const;

export function noWeightNorms(span: Span, kind: keyof typeof whyNoNorms, network: Span): Diagnostic {
  return error('no-weight-norms', span, {
    message: `"scale_weight_norms" shortens the two factors of an adapter, and ${whyNoNorms[kind]}.`,
    related: [{ message: 'The network is said here', span: network }],
    hint: 'Leave it out, or write network = locon or network = lokr.',
  });
}

export function oddSchedule(
  span: Span,
  name: string,
  { step, value }: { readonly step: number; readonly value: number | undefined },
): Diagnostic {
  return error('odd-schedule', span, {
    message:
      value === undefined
        ? `"${name}" has no finite value at step ${step}.`
        : `"${name}" is below zero at step ${step}: ${value}.`,
    hint: 'Steps count from 1 to the "steps" of the training, and at each of them it has to be a number from 0 on.',
  });
}

export function otherPrediction(span: Span, name: string, prediction: Span): Diagnostic {
  const wanted = name === 'v_pred_like_loss' ? 'noise' : 'v';
  return error('other-prediction', span, {
    message: `"${name}" is for checkpoints that predict ${wanted}, and this one is said to predict the other.`,
    related: [{ message: 'It is said here', span: prediction }],
    hint: 'Leave it out.',
  });
}

export function scaleOfSnr(span: Span, loss: { readonly kind: string; readonly scale: number }): Diagnostic {
  return error('scale-of-snr', span, {
    message: `The schedule snr does not read "scale", which is ${loss.scale} here.`,
    hint: `Leave "scale" out, or write schedule = exponential or schedule = constant in ${loss.kind} { … }.`,
  });
}

export function snrOfEpsilon(span: Span): Diagnostic {
  return warning('snr-of-epsilon', span, {
    message: 'A model that predicts noise cannot learn anything where its schedule ends in pure noise.',
    hint: 'Zero terminal SNR belongs to checkpoints that predict v: write prediction = v if this is one.',
  });
}

export function stillScalars(span: Span, optimizer: Span): Diagnostic {
  return error('still-scalars', span, {
    message: 'SAVEUS with centralization = 1 leaves nothing of the gradient of a single number, so scalars stay 0.',
    related: [{ message: 'The optimizer is said here', span: optimizer }],
    hint: 'Write a smaller centralization, or leave use_scalar out.',
  });
}

export function timestepOrder(span: Span, min: number, max: number): Diagnostic {
  return error('timestep-order', span, {
    message: `There is no timestep from ${min} on that is below ${max}.`,
    hint: '"min_timestep" is the first one, "max_timestep" the one behind the last.',
  });
}

export function twoWeights(span: Span, gamma: Span): Diagnostic {
  return warning('two-weights', span, {
    message: '"debiased_estimation" and "min_snr_gamma" both weigh timesteps by their noise, and multiply.',
    related: [{ message: 'The other is written here', span: gamma }],
    hint: 'One of them is usual.',
  });
}

export function unfitPattern(span: Span, setting: string, pattern: string, near: readonly string[]): Diagnostic {
  return error('unfit-pattern', span, {
    message: `The pattern "${pattern}" in "${setting}" fits no layer of SDXL.`,
    hint: `Names are those of LoRA files, with * for any letters. Similar ones are ${near.map((name) => `"${name}"`).join(', ')}.`,
  });
}
