// Settings of trainings and datasets that do not go together.

import { type Explanations, trainWith } from './explanation.ts';

const kept = 'dataset kept { images = "class" }';
const apart = 'dataset apart { images = "apart" }';

export const training: Explanations = {
  'adafactor-schedule': {
    means: `Adafactor can do without a learning rate: it takes one that follows from the number of the step. That is what this
schedule is, and other optimizers want other rates.`,
    wrong: trainWith('optimizer = AdamW  lr_scheduler = adafactor'),
    right: trainWith('optimizer = Adafactor  lr_scheduler = adafactor'),
  },
  'alpha-above-rank': {
    means: `What an adapter has learned counts alpha / rank times. Above 1 it works like a higher learning rate, and trainings
break sooner. From half the rank up to the rank is usual.`,
    wrong: trainWith('network = locon { dim = 8  alpha = 16 }'),
    right: trainWith('network = locon { dim = 8  alpha = 4 }'),
  },
  'batches-of-regularization': {
    means: `Which regularization images an epoch has changes from epoch to epoch, so batches cannot be counted out beforehand
as sd-scripts does. Let lorac fill them image by image.`,
    wrong: `${kept}\n${trainWith('regularization = kept  accumulation = sd_scripts')}`,
    right: `${kept}\n${trainWith('regularization = kept  accumulation = images')}`,
  },
  'both-predictions': {
    means: `One of the two is for checkpoints that predict noise, as most do, the other for those that predict v. No
checkpoint does both.`,
    wrong: trainWith('v_pred_like_loss = 0.1  scale_v_pred_loss_like_noise_pred = true'),
    right: trainWith('v_pred_like_loss = 0.1'),
  },
  'bucket-step': {
    means: `The sides of buckets are whole multiples of the step, and with a step this large there is no bucket as small as the
resolution.`,
    wrong: `dataset hero { images = "images"  resolution = 64x64  bucket = { step = 128 } }`,
    right: `dataset hero { images = "images"  resolution = 1024x1024  bucket = { step = 64 } }`,
  },
  'class-name': {
    means: `An optimizer of your own is a Python class, named with its module, so that it can be found.`,
    wrong: trainWith('optimizer = python { class = "RAdam" }'),
    right: trainWith('optimizer = python { class = "torch.optim.RAdam" }'),
  },
  'coarse-weights': {
    means: `fp8_base stores the weights that do not change in 8 bits, to save memory, and that rounds each by up to 6 %. bf16
rounds by 0.4 % at most, so 32 bits for everything else would take twice the memory for digits that are wrong already.`,
    wrong: trainWith('fp8_base = on  mixed_precision = fp32'),
    right: trainWith('fp8_base = on  mixed_precision = bf16'),
  },
  'far-rate': {
    means: `The learning rate is far from what people use with this optimizer. Too high, and the pictures fall apart; too low,
and a night is spent on learning nothing. Often an exponent was mistyped.`,
    wrong: trainWith('optimizer = AdamW  unet_lr = 1e-2'),
    right: trainWith('optimizer = AdamW  unet_lr = 1e-4'),
  },
  'held-out-images': {
    means: `Images for measuring are either those of a dataset of their own, or a share of what is trained on.`,
    wrong: `${apart}\n${trainWith('validation = { data = apart  share = 0.2 }')}`,
    right: `${apart}\n${trainWith('validation = { data = apart }')}`,
  },
  'held-out-learned': {
    means: `Measuring with the images that are learned tells how well they are remembered and not how well the LoRA does.`,
    wrong: trainWith('validation = { data = hero }'),
    right: trainWith('validation = { share = 0.1 }'),
  },
  'idle-bucket': {
    means: `With upscale = false each image keeps its own shape, as near as the step allows, so there is no list of buckets that
these settings could change.`,
    wrong: `dataset hero { images = "images"  bucket = { upscale = false  max = 1024 } }`,
    right: `dataset hero { images = "images"  bucket = { upscale = false } }`,
  },
  'idle-compile': {
    means: `compile makes code of the transformer blocks once, to be used at every step. A dropout leaves other values out at
each step, so with one, blocks compute as they do without compile.`,
    wrong: trainWith('compile = true  network = locon { dropout = 0.1 }'),
    right: trainWith('compile = true  network = locon'),
  },
  'idle-mask-missing': {
    means: `mask_missing says what becomes of images that have no picture in the folder of masks. Without such a folder there
is nothing to miss.`,
    wrong: `dataset hero { images = "images"  mask_missing = whole }`,
    right: `dataset hero { images = "images"  masks = "masks"  mask_missing = whole }`,
  },
  'idle-masked-loss': {
    means: `masked_loss says how much the places count that masks leave out. Neither the images to learn nor those to keep have
masks, so it does nothing.`,
    wrong: trainWith('masked_loss = { unmasked_weight = 0.1 }'),
    right: `checkpoint pony { path = "pony.safetensors" }
dataset cut { images = "images"  alpha_mask = true }
train raw { base = pony  data = cut  masked_loss = { unmasked_weight = 0.1 } }`,
  },
  'idle-processes': {
    means: `A step trains on batch_size × gradient_accumulation_steps images, however many processes share them. Where there are
more processes than images, some only wait.`,
    wrong: trainWith('launch = torchrun { processes = 8 }  batch_size = 2  gradient_accumulation_steps = 2'),
    right: trainWith('launch = torchrun { processes = 4 }  batch_size = 2  gradient_accumulation_steps = 2'),
  },
  'idle-prior-weight': {
    means: `prior_loss_weight says how much regularization images count. Without such images it does nothing.`,
    wrong: trainWith('prior_loss_weight = 0.5'),
    right: `${kept}\n${trainWith('regularization = kept  prior_loss_weight = 0.5')}`,
  },
  'no-norms': {
    means: `train_norm trains norm layers as well, and this preset has none among its layers.`,
    wrong: trainWith('network = full { preset = attn-only  train_norm = true }'),
    right: trainWith('network = full { preset = attn-mlp  train_norm = true }'),
  },
  'no-strength': {
    means: `This setting changes another one that is 0, which is off.`,
    wrong: trainWith('noise_offset_random_strength = true'),
    right: trainWith('noise_offset = 0.05  noise_offset_random_strength = true'),
  },
  'no-weight-norms': {
    means: `scale_weight_norms keeps the two factors of an adapter from growing too large, and this kind of network has no such
factors.`,
    wrong: trainWith('scale_weight_norms = 1  network = full'),
    right: trainWith('scale_weight_norms = 1  network = locon'),
  },
  'late-interval': {
    means: `Something is to happen every so many steps, and the training is over before.`,
    wrong: trainWith('steps = 80  save_every = 100'),
    right: trainWith('steps = 80  save_every = 20'),
  },
  'nothing-to-train': {
    means: `With both rates at 0 nothing would change in the whole training.`,
    wrong: trainWith('train_unet = false  text_encoder_lr = 0'),
    right: trainWith('text_encoder_lr = 0'),
  },
  'odd-color': {
    means: `A color is "#" and six hexadecimal digits, two each for red, green and blue.`,
    wrong: `dataset hero { images = "images"  transparency = "red" }`,
    right: `dataset hero { images = "images"  transparency = "#ffffff" }`,
  },
  'odd-rendezvous': {
    means: `Processes on several machines meet at a name and a port of the machine that builds. All of them have to reach it by
that name, and nothing else may use the port. A training on one machine needs none.`,
    wrong: trainWith('launch = torchrun { machines = 2  rendezvous = "gpu1" }'),
    right: trainWith('launch = torchrun { machines = 2  rendezvous = "gpu1:29400" }'),
  },
  'odd-schedule': {
    means: `What gradients are clipped to is a size, so it has to be a number from 0 on at every step of the training. Steps
count from 1. A training would stop at the first step that has none.`,
    wrong: trainWith('steps = 40  optimizer = SAVEUS { clip_gradients = true  clip_lambda = 1 / (step - 1) }'),
    right: trainWith('steps = 40  optimizer = SAVEUS { clip_gradients = true  clip_lambda = 1 / step }'),
  },
  'other-prediction': {
    means: `The checkpoint block says what the checkpoint predicts, and this setting of the training is for the other kind.`,
    wrong: `checkpoint pony { path = "pony.safetensors"  prediction = v }\n${trainWith('v_pred_like_loss = 0.1')}`,
    right: `checkpoint pony { path = "pony.safetensors"  prediction = v }\n${trainWith('scale_v_pred_loss_like_noise_pred = true')}`,
  },
  'prodigy-rates': {
    means: `Prodigy finds one learning rate for everything, so there cannot be one for the UNet and another for the text
encoders or for single blocks.`,
    wrong: trainWith('optimizer = Prodigy  text_encoder_lr = 0.5'),
    right: trainWith('optimizer = Prodigy'),
  },
  'rate-end': {
    means: `The rates of this schedule fall, and here the end lies above the beginning.`,
    wrong: trainWith('unet_lr = 1e-4  lr_scheduler = polynomial { lr_end = 2e-4 }'),
    right: trainWith('unet_lr = 1e-4  text_encoder_lr = 1e-4  lr_scheduler = polynomial { lr_end = 1e-6 }'),
  },
  'same-images': {
    means: `Regularization images show what is to stay as it was, so they cannot be the images that are learned.`,
    wrong: trainWith('regularization = hero'),
    right: `${kept}\n${trainWith('regularization = kept')}`,
  },
  'scale-of-snr': {
    means: `The schedule snr works its threshold out from c alone, and never looks at scale.`,
    wrong: trainWith('loss = huber { scale = 2 }'),
    right: trainWith('loss = huber { schedule = exponential  scale = 2 }'),
  },
  'schedule-length': {
    means: `The parts of the schedule together have more steps than the training.`,
    wrong: trainWith('steps = 80  lr_scheduler = linear { warmup = 100 }'),
    right: trainWith('steps = 80  lr_scheduler = linear { warmup = 10 }'),
  },
  'share-too-large': {
    means: `A share of all steps is written as a percentage, and 100% would leave none for the rest.`,
    wrong: trainWith('lr_scheduler = linear { warmup = "100%" }'),
    right: trainWith('lr_scheduler = linear { warmup = "10%" }'),
  },
  'small-adafactor-rate': {
    means: `With the schedule adafactor the rate follows from the number of the step, and what is written is a factor on it.
With a factor as small as usual rates, next to nothing is learned.`,
    wrong: trainWith('optimizer = Adafactor  lr_scheduler = adafactor  unet_lr = 1e-4  text_encoder_lr = 0'),
    right: trainWith('optimizer = Adafactor  lr_scheduler = adafactor  text_encoder_lr = 0'),
  },
  'small-prodigy-rate': {
    means: `Prodigy finds the learning rate itself, and what is written is a factor on it. With a factor as small as usual
rates, next to nothing is learned.`,
    wrong: trainWith('optimizer = Prodigy  unet_lr = 1e-4  text_encoder_lr = 0'),
    right: trainWith('optimizer = Prodigy  text_encoder_lr = 0'),
  },
  'snr-of-epsilon': {
    means: `With zero terminal SNR the last timestep is pure noise. A checkpoint that predicts noise has nothing to learn from
it; one that predicts v has.`,
    wrong: `checkpoint pony { path = "pony.safetensors"  prediction = epsilon  zero_terminal_snr = on }`,
    right: `checkpoint pony { path = "pony.safetensors"  prediction = v  zero_terminal_snr = on }`,
  },
  'square-only': {
    means: `No bucket but a square fits between min and max, so every picture that is not square loses its sides.`,
    wrong: `dataset hero { images = "images"  resolution = 128x128 }`,
    right: `dataset hero { images = "images"  resolution = 128x128  bucket = { min = 64 } }`,
  },
  'step-rules': {
    means: `The rules are factors, each with the step that it ends before, and a last factor for the rest.`,
    wrong: trainWith('lr_scheduler = piecewise_constant { step_rules = "1:10,0.1:20" }'),
    right: trainWith('lr_scheduler = piecewise_constant { step_rules = "1:10,0.1:20,0.01" }'),
  },
  'still-scalars': {
    means: `use_scalar multiplies each module by a number that is learned, and with centralization = 1 SAVEUS takes away all of
the gradient of a single number: it would stay 0, and with it the whole LoRA.`,
    wrong: trainWith('network = locon { use_scalar = true }  optimizer = SAVEUS { centralization = 1 }'),
    right: trainWith('network = locon { use_scalar = true }  optimizer = SAVEUS { centralization = 0.5 }'),
  },
  'timestep-order': {
    means: `Training draws timesteps from min_timestep up to, and without, max_timestep. Here there is none between.`,
    wrong: trainWith('min_timestep = 900  max_timestep = 500'),
    right: trainWith('min_timestep = 500  max_timestep = 900'),
  },
  'two-masks': {
    means: `The mask of an image is its own transparency, with alpha_mask, or a picture in a folder, with masks. With both, it
would not be clear which one counts.`,
    wrong: `dataset hero { images = "images"  masks = "masks"  alpha_mask = true }`,
    right: `dataset hero { images = "images"  masks = "masks" }`,
  },
  'two-weights': {
    means: `Both make easy timesteps count less, each by its own formula. Together they do it twice.`,
    wrong: trainWith('min_snr_gamma = 5  debiased_estimation = true'),
    right: trainWith('min_snr_gamma = 5'),
  },
  'unfit-pattern': {
    means: `Single layers go by their names in LoRA files, and a pattern stands for all that it fits: "*_attn2_to_k" for the
keys of every attention to the text. This one fits none. lorac inspect FILE shows names.`,
    wrong: trainWith('block_lr = { "*_atn2_to_k" = 2 }'),
    right: trainWith('block_lr = { "*_attn2_to_k" = 2 }'),
  },
};
