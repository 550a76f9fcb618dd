import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseFromWorker } from '../../../src/runtime/worker/messages.ts';
import type { FromWorker, ToWorker, Work } from '../../../src/runtime/worker/protocol.ts';

// python/tests/test_protocol.py reads the same file. The values here are typed, so that a change of the protocol
// shows in the compiler first, then in this test, then in the other language's.
const fixture = JSON.parse(readFileSync(new URL('../../fixtures/protocol/messages.json', import.meta.url), 'utf8')) as {
  toWorker: unknown[];
  fromWorker: unknown[];
};

const prompt = {
  prompt: 'a photo of a cat',
  negative_prompt: '',
  width: 1024,
  height: 768,
  seed: 7,
  steps: 30,
  scale: 7.5,
  sampler: 'euler_a',
} as const;

const works: Work[] = [
  {
    op: 'encode_latents',
    checkpoint: '/models/pony.safetensors',
    vae_precision: 'fp32',
    exif: 'apply',
    transparency: [255, 255, 255],
    resize_filter: 'lanczos',
    items: [
      {
        name: 'one',
        image: '/images/käse 🧀.png',
        resized: [1100, 1024],
        crop: [38, 0],
        bucket: [1024, 1024],
        flip: true,
        mask: { kind: 'file', path: '/masks/käse 🧀.png' },
        output: '/project/one.safetensors',
      },
    ],
  },
  {
    op: 'train',
    checkpoint: '/models/pony.safetensors',
    work: '/work',
    images: [
      {
        digest: 'ab12',
        index: 0,
        latents: '/store/one.safetensors',
        latents_flipped: '/store/one-flipped.safetensors',
        caption: 'hero, red coat',
        original: [2200, 2048],
        resized: [1100, 1024],
        crop: [38, 0],
        bucket: [1024, 1024],
        repeats: 2,
        regularization: false,
      },
    ],
    settings: {
      process: { prediction: 'epsilon', zero_terminal_snr: 'off' },
      seed: 0,
      captions: {
        caption_prefix: null,
        caption_suffix: 'best quality',
        caption_dropout_rate: 0.1,
        caption_dropout_every_n_epochs: 0,
        wildcards: false,
        shuffle_caption: true,
        caption_separator: ',',
        keep_tokens: 1,
        keep_tokens_separator: '|||',
        token_warmup_step: 0.5,
        token_warmup_min: 1,
        caption_tag_dropout_rate: 0.2,
        secondary_separator: null,
      },
      regularization: {
        captions: {
          caption_prefix: null,
          caption_suffix: 'best quality',
          caption_dropout_rate: 0.1,
          caption_dropout_every_n_epochs: 0,
          wildcards: false,
          shuffle_caption: true,
          caption_separator: ',',
          keep_tokens: 1,
          keep_tokens_separator: '|||',
          token_warmup_step: 0.5,
          token_warmup_min: 1,
          caption_tag_dropout_rate: 0.2,
          secondary_separator: null,
        },
        prior_loss_weight: 0.5,
      },
      network: {
        kind: 'locon',
        preset: 'full',
        modules: ['lora_unet_*'],
        text_encoder_modules: 'all',
        dim: 8,
        alpha: 4,
        conv_dim: 256,
        conv_alpha: 4,
        dims: { OUT01: 16, 'TE1.3': 0 },
        conv_dims: {},
        rs_lora: false,
        use_tucker: false,
        train_norm: false,
        use_scalar: true,
        dropout: 0,
        module_dropout: 0,
        rank_dropout: 0.1,
        rank_dropout_scale: false,
      },
      optimizer: {
        kind: 'SAVEUS',
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0,
        decouple_weight_decay: false,
        centralization: 0.5,
        normalization: 0.5,
        normalization_mode: 'full',
        normalize_channels: true,
        amp_fac: 2,
        clip_gradients: false,
        clip_lambda: { op: '**', left: 'step', right: 0.25 },
      },
      unet_lr: 3e-4,
      text_encoder_lr: 1e-4,
      loraplus_lr_ratio: 16,
      block_lr: { OUT01: 0.5 },
      lr_scheduler: { kind: 'cosine', num_cycles: 0.375, warmup: 0.1 },
      max_grad_norm: 1,
      steps: 80,
      batch_size: 8,
      gradient_accumulation_steps: 6,
      accumulation: 'images',
      text_projection: 'true',
      crop_conditioning: 'sd_scripts',
      latents: 'frozen',
      ema: 0.999,
      scale_weight_norms: 1,
      masked_loss: { unmasked_weight: 0.1, normalize: true },
      noise: { kind: 'multires', iterations: 12, discount: 0.4, std_axes: 'image' },
      loss: { kind: 'huber', c: 0.1, schedule: 'snr', scale: 1 },
      noise_offset: 0,
      noise_offset_random_strength: false,
      adaptive_noise_scale: 0,
      ip_noise_gamma: 0,
      ip_noise_gamma_random_strength: false,
      min_timestep: 0,
      max_timestep: 1000,
      min_snr_gamma: 5,
      scale_v_pred_loss_like_noise_pred: false,
      v_pred_like_loss: 0,
      debiased_estimation: false,
      max_token_length: 75,
      mixed_precision: 'bf16',
      save_precision: 'fp16',
      gradient_checkpointing: 'auto',
      on_non_finite: 'skip',
      resolution: [1024, 1024],
    },
    init: { lora: '/store/old.safetensors', digest: 'd'.repeat(64) },
    save_steps: [10, 20, 80],
    until: 80,
    held_out: null,
    samples: {
      steps: [0, 10, 20],
      prompts: [prompt],
      labels: ['a photo of a cat'],
      given: [{ index: 0, picture: '/store/base.png' }],
    },
    state_every: { seconds: 300 },
    events: '/project/.lorac/runs/raw',
  },
  {
    op: 'sample',
    checkpoint: {
      unet: [1, 2].map((part) => `/models/sdxl/unet/diffusion_pytorch_model-0000${part}-of-00002.safetensors`),
      text_encoder: ['/models/sdxl/text_encoder/model.safetensors'],
      text_encoder_2: ['/models/sdxl/text_encoder_2/model.safetensors'],
      vae: ['/models/sdxl/vae/diffusion_pytorch_model.safetensors'],
      scheduler: '/models/sdxl/scheduler/scheduler_config.json',
    },
    process: { prediction: 'v', zero_terminal_snr: 'auto' },
    mixed_precision: 'bf16',
    items: [
      {
        name: 'a',
        lora: { path: '/store/lora.safetensors', strength: 1, blocks: null },
        prompt,
        output: '/project/a.png',
      },
      {
        name: 'b',
        lora: { path: '/store/lora.safetensors', strength: 0.75, blocks: { OUT01: 1, 'TE1.3': 0.5 } },
        prompt,
        output: '/project/b.png',
      },
      { name: 'c', lora: null, prompt, output: '/project/c.png' },
    ],
  },
  {
    op: 'decompose',
    lora: '/store/lora',
    extract: 64,
    checkpoints: ['/models/pony.safetensors'],
    factors: '/project/factors.safetensors',
    modules: '/project/modules.json',
  },
  {
    op: 'frobenius',
    checkpoints: ['/models/pony.safetensors'],
    modules: '/m',
    factors: null,
    output: '/project/n.json',
  },
  {
    op: 'spectral',
    checkpoints: ['/models/sdxl/unet/u.safetensors', '/models/sdxl/text_encoder/t.safetensors'],
    modules: '/m',
    factors: null,
    output: '/project/n.json',
  },
  {
    op: 'projections',
    checkpoints: ['/models/pony.safetensors'],
    modules: '/m',
    factors: '/f',
    output: '/project/n.json',
  },
  {
    op: 'measure',
    pairs: [{ name: 'OUT01', first: '/store/a.png', second: '/store/b.png' }],
    output: '/project/distances.json',
  },
  {
    op: 'grid',
    title: 'hero, block by block',
    columns: ['none', 'OUT01'],
    rows: ['a photo of a cat'],
    cells: [
      { row: 0, column: 0, picture: '/store/a.png', compared: null, caption: '' },
      { row: 0, column: 1, picture: '/store/b.png', compared: '/store/a.png', caption: '0.12' },
    ],
    output: '/project/grid.png',
  },
  { op: 'look', items: [{ name: 'ab12', image: '/images/käse 🧀.png' }], output: '/project/looks.json' },
];

const toWorker: ToWorker[] = [
  ...works.map((work, index) => ({ type: 'request' as const, id: index + 1, work })),
  { type: 'cancel', id: 2 },
];

const fromWorker: FromWorker[] = [
  {
    type: 'hello',
    protocol: 1,
    python: '3.12.4',
    torch: '2.13.0',
    device: 'cuda',
    deviceName: 'NVIDIA H200',
    threads: 16,
  },
  { type: 'progress', id: 1, done: 3, total: 5, unit: 'images' },
  { type: 'progress', id: 1, done: 5, total: 5, unit: 'images', note: 'käse 🧀' },
  {
    type: 'step',
    id: 2,
    step: 1,
    total: 80,
    loss: 0.125,
    learning_rates: { unet: 3e-4, text_encoder: 1e-4 },
    grad_norm: 2.5,
    seconds: 1.5,
  },
  { type: 'step', id: 2, step: 2, total: 80, loss: null, learning_rates: {}, grad_norm: null, seconds: 1.5 },
  { type: 'artifact', id: 2, name: 'step.10', path: '/project/step-10.safetensors' },
  { type: 'log', id: 2, level: 'warning', message: 'one line\nand another' },
  { type: 'result', id: 2, outputs: { lora: '/project/lora.safetensors', metrics: '/project/metrics.jsonl' } },
  {
    type: 'failure',
    id: 1,
    failure: {
      kind: 'bad-input',
      message: 'Some images cannot be used.',
      hint: null,
      problems: [{ path: '/images/one.png', message: 'It ends too early.' }],
    },
  },
  { type: 'failure', id: 2, failure: { kind: 'cancelled', message: 'Stopped on request.', hint: 'x', problems: [] } },
];

test('what the CLI says is what the shared fixture holds', () => {
  expect(fixture.toWorker).toEqual(toWorker);
});

test('what the worker says is understood', () => {
  expect(fixture.fromWorker).toEqual(fromWorker);
  expect(fixture.fromWorker.map((message) => parseFromWorker(JSON.stringify(message)))).toEqual(fromWorker);
});
