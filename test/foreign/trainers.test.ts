// Configurations of programs other than sd-scripts.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { importText } from '../../src/foreign/import.ts';
import { nowhere } from '../../src/foreign/recipe.ts';
import { blockIn, imported } from './foreign.ts';

const read = (name: string) => readFileSync(new URL(`../fixtures/foreign/${name}`, import.meta.url), 'utf8');

test.each(['kohya-gui.json', 'onetrainer.json', 'ai-toolkit.yaml'])('the program that %s becomes', (name) => {
  expect(imported(read(name), { countImages: () => 20 }).text).toMatchSnapshot();
});

const gui = (changes: object) => JSON.stringify({ ...JSON.parse(read('kohya-gui.json')), ...changes });
const trainOfGui = (changes: object) => blockIn(imported(gui(changes)), 'train').attributes;

test('kohya_ss: the type of LoRA says which module, and whether convolutions are trained', () => {
  expect(trainOfGui({ LoRA_type: 'Standard' }).network).toMatchObject({ kind: 'locon', preset: 'attn-mlp', dim: 8 });
  expect(trainOfGui({ LoRA_type: 'Kohya LoCon' }).network).toMatchObject({
    kind: 'locon',
    preset: 'full',
    conv_dim: 4,
  });
  expect(trainOfGui({ LoRA_type: 'LyCORIS/LoHa', dora_wd: false }).network.kind).toBe('loha');
  expect(imported(gui({ LoRA_type: 'LyCORIS/iA3' })).lost).toContain('LoRA_type');
});

test('kohya_ss: a rate of 0 leaves a part out, and two of them mean the rate for both', () => {
  expect(trainOfGui({ optimizer: 'AdamW', optimizer_args: '', unet_lr: 0, text_encoder_lr: 0 })).toMatchObject({
    unet_lr: 1e-4,
    text_encoder_lr: 1e-4,
  });
  expect(trainOfGui({ unet_lr: 0, text_encoder_lr: 1 })).toMatchObject({ train_unet: false, text_encoder_lr: 1 });
});

test('kohya_ss: the warm-up is in percent, unless it is in steps; a constant rate has none', () => {
  expect(trainOfGui({}).lr_scheduler).toMatchObject({ warmup: 0.1 });
  expect(trainOfGui({ lr_warmup_steps: 30 }).lr_scheduler).toMatchObject({ warmup: 30 });
  expect(trainOfGui({ lr_scheduler: 'constant', lr_scheduler_args: '' }).lr_scheduler.kind).toBe('constant');
});

test('kohya_ss: of two kinds of noise the one counts that is chosen', () => {
  expect(trainOfGui({})).toMatchObject({ noise: { kind: 'multires', iterations: 6 }, noise_offset: 0 });
  expect(trainOfGui({ noise_offset_type: 'Original' })).toMatchObject({ noise: { kind: 'plain' }, noise_offset: 0.05 });
});

test('what trains another model is refused, with the name of the model', () => {
  expect(importText(gui({ flux1_checkbox: true }), nowhere)).toMatchObject({
    problem: 'lorac trains SDXL, and these settings are for FLUX.',
  });
  expect(imported(gui({ sdxl: false })).lost).toContain('sdxl');
  const job = read('ai-toolkit.yaml').replace('is_xl: true', 'arch: flux').replace('pony', 'dev');
  expect(importText(job, nowhere)).toMatchObject({ problem: 'lorac trains SDXL, and this job trains flux.' });
  const config = read('onetrainer.json').replace('STABLE_DIFFUSION_XL_10_BASE', 'FLUX_DEV_1');
  expect(importText(config, nowhere)).toMatchObject({
    problem: 'lorac trains SDXL, and this configuration trains FLUX_DEV_1.',
  });
  const full = read('onetrainer.json').replace('"LORA"', '"FINE_TUNE"');
  expect(importText(full, nowhere)).toMatchObject({
    problem: 'lorac trains LoRAs, and this configuration has the training_method FINE_TUNE.',
  });
});

test('OneTrainer: a flat configuration of 2023 with its concepts in a file beside it', () => {
  const flat = {
    training_method: 'LORA',
    model_type: 'STABLE_DIFFUSION_XL_10_BASE',
    base_model_name: 'stabilityai/stable-diffusion-xl-base-1.0',
    concept_file_name: 'training_concepts/concepts.json',
    optimizer: 'ADAMW',
    weight_decay: 0.02,
    learning_rate_scheduler: 'CONSTANT',
    learning_rate_warmup_steps: 200,
    epochs: 30,
    batch_size: 4,
    train_text_encoder: false,
    unet_learning_rate: 0.0002,
    lora_rank: 16,
    train_dtype: 'FLOAT_16',
  };
  const concepts = [{ path: '/pics/fox', include_subdirectories: false }];
  const around = {
    readText: (path: string) => (path === 'training_concepts/concepts.json' ? JSON.stringify(concepts) : undefined),
    countImages: () => 100,
  };
  const result = imported(JSON.stringify(flat), around);
  expect(blockIn(result, 'train').attributes).toMatchObject({
    optimizer: { kind: 'AdamW', weight_decay: 0.02 },
    lr_scheduler: { kind: 'constant_with_warmup', warmup: 200 },
    unet_lr: 2e-4,
    train_text_encoder: false,
    steps: 750,
    mixed_precision: 'bf16',
  });
  expect(result.text).toContain('# a name on Hugging Face: download the file');
  expect(imported(JSON.stringify(flat)).lost).toContain('concept_file_name');
});

test('an average that the other trainer would have saved is what is saved here', () => {
  for (const [name, decay] of [
    ['onetrainer.json', 0.999],
    ['ai-toolkit.yaml', 0.99],
  ] as const) {
    const result = imported(read(name), { countImages: () => 20 });
    expect(blockIn(result, 'train').attributes.ema).toBe(decay);
    expect(blockIn(result, 'save').attributes.from).toMatchObject({ block: 'raw', step: { kind: 'kept-ema' } });
  }
});
