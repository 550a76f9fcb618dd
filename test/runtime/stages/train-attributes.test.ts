// Equal trainings have equal attributes, and so one fingerprint.

import { expect, test } from 'vitest';
import type { Json } from '../../../src/runtime/graph/json.ts';
import { canonicalTraining } from '../../../src/runtime/stages/train-attributes.ts';

const usual = { kind: 'locon', preset: 'full', modules: [], dims: {}, conv_dims: {} };
const canonical = (network: { readonly [name: string]: Json }) =>
  canonicalTraining({ steps: 80, network: { ...usual, ...network } }).network;

/** A rate says what is not trained, so these two are always the same. */
const trained = { train_unet: true, train_text_encoder: true };

test('what is not written stays as it is', () => {
  const written = { steps: 80, network: usual, ...trained };
  expect(canonicalTraining(written)).toEqual(written);
});

test('settings that came later are no part of a training that does not use them', () => {
  const before = { steps: 80, network: usual, ...trained };
  const later = {
    crop_conditioning: 'real',
    latents: 'fresh',
    fp8_base: 'off',
    masked_loss: { unmasked_weight: 0, normalize: false },
  };
  expect(canonicalTraining({ ...before, ...later })).toEqual(before);
  const network = { ...usual, use_scalar: false, wd_on_output: true, unbalanced_factorization: false };
  expect(canonicalTraining({ ...before, network })).toEqual(before);
  expect(canonical({ use_scalar: true })).toEqual({ ...usual, use_scalar: true });
  const used = {
    crop_conditioning: 'sd_scripts',
    latents: 'frozen',
    fp8_base: 'unet',
    masked_loss: { unmasked_weight: 0, normalize: true },
  };
  expect(canonicalTraining({ ...before, ...used })).toEqual({ ...before, ...used });
});

test('patterns have no order and count once', () => {
  expect(canonical({ modules: ['b*', 'a*', 'b*'] })).toEqual(canonical({ modules: ['a*', 'b*'] }));
});

test('ranks by block are the same however the blocks are named', () => {
  const spelt = canonical({ dims: { MID: 32, MID1: 8 }, conv_dims: { OUT01: 4 } });
  expect(spelt).toEqual(canonical({ dims: { MID00: 32, MID01: 8, MID02: 32 }, conv_dims: { 'output_blocks.1': 4 } }));
  expect(spelt).toMatchObject({ dims: { MID00: 32, MID01: 8, MID02: 32 }, conv_dims: { OUT01: 4 } });
});

test('patterns of layers stay as they are, whatever stands before them', () => {
  const spelt = canonical({ dims: { '*_to_k': 4, MID: 32, '*_to_q': 2 }, conv_dims: { '*_in_layers_2': 16 } });
  expect(spelt).toEqual(canonical({ dims: { '*_to_q': 2, MID: 32, '*_to_k': 4 }, conv_dims: { '*_in_layers_2': 16 } }));
  expect(spelt).toMatchObject({ dims: { '*_to_k': 4, MID02: 32, '*_to_q': 2 }, conv_dims: { '*_in_layers_2': 16 } });
  expect(canonicalTraining({ network: usual, block_lr: { '*_to_k': 2, 'output_blocks.1': 0.5 } })).toMatchObject({
    block_lr: { '*_to_k': 2, OUT01: 0.5 },
  });
});

test('where a rank is 0, all of the block is meant, and a training without one is what it was', () => {
  expect(canonical({ dims: { OUT01: 0 } })).toEqual({ ...usual, dims: { OUT01: 0 }, zero_dims: 'all' });
  expect(canonical({ dims: { '*_to_k': 0 } })).toMatchObject({ zero_dims: 'all' });
  expect(canonical({ dims: { OUT01: 4 }, conv_dims: { OUT01: 0 } })).not.toHaveProperty('zero_dims');
});

test('a layer of a text encoder goes before its encoder', () => {
  expect(canonical({ dims: { 'TE1.3': 0, TE1: 4 } })).toMatchObject({ dims: { TE1: 4, 'TE1.2': 4, 'TE1.3': 0 } });
});

test('rates by block mean blocks, and what is not trained is said by its rate', () => {
  const written = { network: usual, train_unet: true, train_text_encoder: false, block_lr: { MID: 2, INP01: 0.5 } };
  expect(canonicalTraining(written)).toEqual({
    ...trained,
    network: usual,
    block_lr: { IN01: 0.5, MID00: 2, MID01: 2, MID02: 2 },
  });
});

test('a network without ranks gets none', () => {
  const full = { kind: 'full', preset: 'full', modules: ['b', 'a'] };
  expect(canonicalTraining({ network: full })).toEqual({ ...trained, network: { ...full, modules: ['a', 'b'] } });
});
