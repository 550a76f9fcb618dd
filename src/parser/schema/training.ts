// The rows of the schema table for training: from a checkpoint and images to a LoRA.

import { maskedLoss } from './images.ts';
import { launch } from './launch.ts';
import { network } from './network.ts';
import { lrScheduler, optimizer, shares } from './rates.ts';
import {
  boolean,
  duration,
  either,
  integer,
  listOfDifferent,
  number,
  optional,
  positive,
  preset,
  record,
  reference,
  required,
  steps,
  tagged,
  text,
  variantOf,
  words,
} from './types.ts';

export const noise = tagged({
  multires: {
    iterations: preset(integer({ min: 1, max: 64 }), 12, 'How many coarser layers of noise are added at most.', {
      synonyms: ['multires_noise_iterations', 'pyramid_noise_iterations'],
    }),
    discount: preset(number({ min: 0, max: 1 }), 0.4, 'Strength of each layer, relative to the one before it.', {
      synonyms: ['multires_noise_discount', 'pyramid_noise_discount'],
    }),
    std_axes: optional(
      words('image', 'batch'),
      'What the noise is divided by: the standard deviation of each image, or of the whole batch as in sd-scripts. image unless parity says otherwise.',
    ),
  },
  plain: {},
});

const robust = {
  c: preset(positive(), 0.1, 'Where the loss turns from a square into a line: the smaller, the sooner.', {
    synonyms: ['huber_c', 'delta', 'beta'],
  }),
  schedule: preset(
    words('snr', 'exponential', 'constant'),
    'snr',
    'How the turning point falls from timesteps with little noise to those with much: from about 1 to c by the noise, from scale to c * scale exponentially, or not at all (c * scale).',
    { synonyms: ['huber_schedule'] },
  ),
  scale: preset(positive(), 1, 'Factor of the turning point, with the schedules exponential and constant.', {
    synonyms: ['huber_scale'],
  }),
};

export const loss = tagged({ l2: {}, l1: {}, huber: robust, smooth_l1: robust });

const sample = record({
  every: preset(integer({ min: 1 }), 10, 'Steps between two rounds of pictures.', {
    synonyms: ['sample_every_n_steps', 'sample_every', 'sample_steps'],
  }),
  prompts: required(text('path'), 'Text file with one prompt per line.', {
    synonyms: ['sample_prompts', 'prompt_file', 'prompts_file', 'prompt'],
  }),
  at_first: preset(
    boolean(),
    true,
    'Pictures before the first step as well: what the base makes of the prompts without the LoRA, or with the one that init names.',
    { synonyms: ['sample_at_first', 'first', 'before', 'step_0'] },
  ),
  sampler: preset(words('euler_a'), 'euler_a', 'How the pictures are sampled.', { synonyms: ['sample_sampler'] }),
});

const validation = record({
  data: optional(reference('dataset'), 'The images to measure with. They should not be among those that are learned.', {
    synonyms: ['dataset', 'images', 'validation_data'],
  }),
  share: optional(
    number({ min: 0, max: 1, openMin: true, openMax: true }),
    'In place of data: this share of the images is not learned from, a tenth where neither is written. Which ones follows from their content.',
    { synonyms: ['validation_split', 'split', 'fraction'] },
  ),
  every: preset(integer({ min: 1 }), 10, 'Steps between two measurements. The LoRA of each is kept.', {
    synonyms: ['validate_every_n_steps', 'validation_every', 'interval'],
  }),
  timesteps: preset(
    listOfDifferent(integer({ min: 0, max: 999 })),
    [200, 400, 600, 800],
    'The timesteps that each image is noised to, with the same noise every time.',
  ),
});

export const train = {
  base: required(reference('checkpoint'), 'The checkpoint to train on.', {
    synonyms: ['model', 'base_model', 'checkpoint', 'pretrained_model_name_or_path'],
  }),
  data: required(reference('dataset'), 'The images to learn from.', {
    synonyms: ['dataset', 'datasets', 'images', 'train_data', 'dataset_config', 'train_data_dir'],
  }),
  regularization: optional(
    reference('dataset'),
    'Images of what the base knows and should keep knowing: half of all that is trained on.',
    { synonyms: ['reg_data_dir', 'reg_data', 'regularization_images', 'reg_images', 'is_reg', 'class_data_dir'] },
  ),
  prior_loss_weight: preset(number({ min: 0 }), 1, 'What the loss of each regularization image is multiplied by.', {
    synonyms: ['prior_weight', 'reg_weight'],
  }),
  init: optional(
    reference('train', 'lora', 'resize', 'chop', 'merge'),
    'A LoRA that the training begins with, in place of one that changes nothing. It has to be of the kind and the ranks that network says.',
    { synonyms: ['network_weights', 'init_from', 'warm_start', 'start_from', 'lora_weights', 'from'] },
  ),
  network: preset(network, variantOf(network, 'locon'), 'What is trained.', {
    synonyms: ['network_module', 'adapter', 'lora', 'algo', 'network_args', 'network_type'],
  }),
  optimizer: preset(optimizer, variantOf(optimizer, 'SAVEUS'), 'How weights are updated.', {
    synonyms: ['optimizer_type', 'optimiser', 'optimizer_args'],
  }),
  unet_lr: preset(number({ min: 0 }), 3e-4, 'Learning rate of the UNet.', {
    synonyms: ['lr', 'learning_rate', 'unet_learning_rate', 'rate'],
  }),
  text_encoder_lr: preset(number({ min: 0 }), 1e-4, 'Learning rate of both text encoders.', {
    synonyms: ['te_lr', 'text_encoder_learning_rate', 'text_lr', 'clip_lr'],
  }),
  ...shares,
  lr_scheduler: preset(lrScheduler, variantOf(lrScheduler, 'cosine'), 'How the learning rates change.', {
    synonyms: ['scheduler', 'lr_schedule', 'learning_rate_scheduler', 'lr_scheduler_type', 'lr_scheduler_args'],
  }),
  max_grad_norm: preset(number({ min: 0 }), 1, 'Longer gradients are shortened to this length. 0 leaves them alone.', {
    synonyms: ['clip_grad_norm', 'grad_clip', 'gradient_clip', 'gradient_clipping', 'max_norm'],
  }),
  scale_weight_norms: optional(
    positive(),
    'What an adapter adds to a weight is shortened to this length after each step, both of its factors alike. 1 is usual. For locon and lokr.',
    { synonyms: ['max_norm_value', 'max_norm_regularization', 'max_weight_norm', 'scale_weight_norm'] },
  ),
  steps: preset(integer({ min: 1, max: 10_000_000 }), 80, 'Optimizer steps.', {
    synonyms: ['max_train_steps', 'max_steps', 'train_steps', 'num_steps', 'total_steps'],
  }),
  batch_size: preset(integer({ min: 1, max: 4096 }), 8, 'Images that go through the network at once.', {
    synonyms: ['train_batch_size', 'batch', 'micro_batch_size'],
  }),
  gradient_accumulation_steps: preset(integer({ min: 1, max: 4096 }), 6, 'Batches per optimizer step.', {
    synonyms: ['gradient_accumulation', 'grad_accum', 'accumulation_steps', 'grad_accumulation_steps'],
  }),
  accumulation: preset(
    words('images', 'sd_scripts'),
    'images',
    'images: a step is equally many images, each of which weighs the same. sd_scripts: batches end with their bucket and steps with their epoch, and each batch weighs the same.',
  ),
  text_projection: preset(
    words('true', 'transposed'),
    'true',
    'true: the pooled text as programs that make pictures compute it. transposed: as sd-scripts does with single files.',
  ),
  crop_conditioning: preset(
    words('real', 'sd_scripts'),
    'real',
    'Where SDXL is told that an image was cropped. real: where it was. sd_scripts: as sd-scripts computes it, which lies on the other axis.',
    { synonyms: ['crop_coords', 'crop_coordinates', 'crops_coords_top_left'] },
  ),
  latents: preset(
    words('fresh', 'frozen'),
    'fresh',
    'What an image is when it is trained on: the VAE gives a mean and a deviation. fresh: drawn anew at each visit. frozen: drawn once for the whole training, as in the cache of sd-scripts.',
    { synonyms: ['latent_sampling', 'sample_latents', 'latent_draws'] },
  ),
  parity: preset(
    words('none', 'sd_scripts'),
    'none',
    'sd_scripts: what is not written among the settings that reproduce sd-scripts is set so: accumulation, text_projection, crop_conditioning, latents and std_axes, and of its datasets exif, transparency and resize_filter.',
    { synonyms: ['compatibility', 'compat'] },
  ),
  noise: preset(noise, variantOf(noise, 'multires'), 'The noise that images are mixed with.', {
    synonyms: ['noise_type', 'multires_noise', 'pyramid_noise'],
  }),
  noise_offset: preset(
    number({ min: 0 }),
    0,
    'Noise that is the same all over a channel, of this strength: so that very dark and bright pictures can be learned. 0.05 is usual.',
    { synonyms: ['offset_noise', 'noise_offset_strength', 'offset_noise_weight'] },
  ),
  noise_offset_random_strength: preset(
    boolean(),
    false,
    'Multiply noise_offset by a random number between 0 and 1, for each image.',
    { synonyms: ['random_noise_offset'] },
  ),
  adaptive_noise_scale: preset(number(), 0, "Add this times the mean of each of an image's channels to noise_offset.", {
    synonyms: ['adaptive_noise'],
  }),
  ip_noise_gamma: preset(
    number({ min: 0 }),
    0,
    'Noise of this strength in the input that is not part of the target: input perturbation. 0.1 is usual.',
    { synonyms: ['input_perturbation', 'ip_noise', 'perturbation_noise_weight'] },
  ),
  ip_noise_gamma_random_strength: preset(
    boolean(),
    false,
    'Multiply ip_noise_gamma by a random number between 0 and 1, for each image.',
    { synonyms: ['random_ip_noise_gamma'] },
  ),
  min_timestep: preset(
    integer({ min: 0, max: 999 }),
    0,
    'Train at timesteps from this on. 0 is nearly without noise.',
    { synonyms: ['timestep_min', 'min_t', 'min_denoising_steps'] },
  ),
  max_timestep: preset(
    integer({ min: 1, max: 1000 }),
    1000,
    'Train at timesteps below this. 999 is nearly noise alone.',
    { synonyms: ['timestep_max', 'max_t', 'max_denoising_steps'] },
  ),
  loss: preset(
    loss,
    variantOf(loss, 'l2'),
    'What a wrong prediction counts: its square, its size, or something between.',
    {
      synonyms: ['loss_type', 'loss_fn', 'loss_function'],
    },
  ),
  masked_loss: optional(maskedLoss, 'How masks count, where images have some: by themselves, unless this is written.', {
    synonyms: ['mask_loss'],
  }),
  min_snr_gamma: optional(
    positive(),
    'Timesteps whose signal-to-noise ratio is above this count less, as min-SNR has it. 5 is usual. Without it all count alike.',
    { synonyms: ['snr_gamma', 'min_snr'] },
  ),
  debiased_estimation: preset(
    boolean(),
    false,
    'Timesteps count by 1 / sqrt(SNR), as debiased estimation has it: those with much noise the most.',
    { synonyms: ['debiased_estimation_loss'] },
  ),
  scale_v_pred_loss_like_noise_pred: preset(
    boolean(),
    false,
    'For checkpoints that predict v: scale the loss like that of predicted noise.',
    { synonyms: ['scale_v_pred_loss'] },
  ),
  v_pred_like_loss: preset(
    number({ min: 0 }),
    0,
    'For checkpoints that predict noise: add so much of a loss that is like that of v.',
    { synonyms: ['v_prediction_like_loss'] },
  ),
  max_token_length: preset(
    integer({ min: 75, max: 225, multipleOf: 75 }),
    75,
    'Tokens of a caption that count. Of more than 75, each 75 are encoded by themselves.',
    { synonyms: ['max_tokens', 'token_length', 'max_token_count'] },
  ),
  mixed_precision: preset(words('bf16', 'fp32'), 'bf16', 'Numbers that the network computes with.', {
    synonyms: ['precision', 'dtype', 'train_dtype', 'train_precision'],
  }),
  save_precision: preset(words('fp16', 'bf16', 'fp32'), 'fp16', 'Numbers that LoRAs are stored in.', {
    synonyms: ['save_dtype', 'output_dtype'],
  }),
  save_every: preset(integer({ min: 1 }), 10, 'Steps between two kept LoRAs. The last one is always kept.', {
    synonyms: ['save_every_n_steps', 'save_steps', 'checkpointing_steps', 'save_interval'],
    fingerprint: false,
  }),
  save_last_n_steps: optional(
    integer({ min: 0 }),
    'Keep only those of these LoRAs that were saved at most so many steps before the last one. Steps that the program names, shows and measures are kept all the same. Without it all are.',
    { synonyms: ['save_last', 'save_total_limit', 'checkpoints_total_limit', 'keep_last'], fingerprint: false },
  ),
  sample: optional(sample, 'Pictures rendered during training. Without it there are none.', {
    synonyms: ['samples', 'sampling', 'preview'],
    fingerprint: false,
  }),
  ema: optional(
    number({ min: 0, max: 1, openMin: true, openMax: true }),
    'Keep a moving average of the weights while they are trained: this much of the average so far at each step, less in the first ones. 0.99 or 0.999 are usual. raw@ema is that average; what is saved, shown and measured otherwise stays what was trained.',
    { synonyms: ['ema_decay', 'use_ema', 'ema_weights', 'ema_beta'] },
  ),
  validation: optional(
    validation,
    'Images that training does not learn from, and how often it measures what it predicts of them. raw@best is the step that did so best.',
    { synonyms: ['validation_split', 'eval', 'held_out', 'val'] },
  ),
  seed: preset(integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), 0, 'Where all randomness comes from.', {
    synonyms: ['random_seed', 'manual_seed', 'training_seed'],
  }),
  on_non_finite: preset(
    words('stop', 'skip'),
    'stop',
    'What to do about a step whose loss or gradient is not a finite number: stop the training, or skip the step, leaving the weights as they were. Ten in a row stop it in any case.',
    { synonyms: ['skip_nan', 'nan_policy', 'skip_non_finite'], fingerprint: false },
  ),
  fp8_base: preset(
    words('off', 'on', 'unet'),
    'off',
    'Store frozen weights in 8 bits each (e4m3, with a factor for each row), in half the memory. on: those of the UNet and of both text encoders. unet: those of the UNet alone. It rounds them, so the LoRA is another one.',
    { synonyms: ['fp8', 'fp8_base_unet', 'quantize', 'quantize_base', 'quantization', 'fp8_transformer'] },
  ),
  gradient_checkpointing: preset(
    words('auto', 'on', 'off'),
    'auto',
    'Compute activations twice to save memory. auto: of as many blocks as it takes, where the GPU is too small without.',
    { synonyms: ['grad_checkpointing', 'checkpointing', 'activation_checkpointing'], fingerprint: false },
  ),
  blocks_to_swap: preset(
    integer({ min: 0, max: 70 }),
    0,
    'So many of the 70 transformer blocks of the UNet wait in the memory of the host, and are on the GPU while they are computed with, at most two at a time. It saves up to 4 GiB and costs time.',
    { synonyms: ['block_swap', 'offload', 'layer_offload_fraction', 'offload_blocks'], fingerprint: false },
  ),
  compile: preset(
    boolean(),
    false,
    'Compile the transformer blocks of the UNet with torch.compile. The first steps take longer, by minutes on a GPU. Where it fails, training goes on without.',
    { synonyms: ['torch_compile', 'compile_model', 'use_compile'], fingerprint: false },
  ),
  vram: optional(
    number({ min: 0, openMin: true, unit: 'MiB' }),
    'The memory of the device that a training may take, as in 8GB. By default what is free. Batches are cut and blocks computed twice so that it is enough; the result stays the same.',
    { synonyms: ['max_vram', 'vram_limit', 'gpu_memory', 'memory_limit'], fingerprint: false },
  ),
  launch: preset(
    launch,
    variantOf(launch, 'single'),
    'How many processes share the images of each step: one, or several on several GPUs, started by torchrun. A step trains on the same images either way.',
    { synonyms: ['launcher', 'distributed', 'accelerate', 'torchrun', 'world_size'], fingerprint: false },
  ),
  vae_precision: preset(words('fp32', 'bf16'), 'fp32', 'Numbers that images are encoded with.', {
    synonyms: ['vae_dtype', 'vae_type'],
  }),
  state_every: preset(
    either(duration(), steps()),
    { seconds: 300 },
    'How often a state that a stopped training goes on from is written: a duration, or a number of steps.',
    { synonyms: ['save_state', 'save_state_every', 'state_interval'], fingerprint: false },
  ),
};
