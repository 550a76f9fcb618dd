// The CLI and the torch worker speak JSON, one object per line, over the worker's stdin and stdout.
// Tensors never travel here: messages name files. Every request gets exactly one `result` or `failure`.
// python/lora_worker/protocol.py is the other half of this file; the two change together.

import type { FileProblem } from '../events.ts';
import type { LrScheduler, Optimizer } from './protocol-rates.ts';

export const PROTOCOL = 1;

export type ToWorker =
  | { readonly type: 'request'; readonly id: number; readonly work: Work }
  /** Stop soon, keeping what a later run can go on from. Answered by a `failure` of kind `cancelled`. */
  | { readonly type: 'cancel'; readonly id: number };

export type FromWorker =
  /** Always the first line. Another protocol number ends the run before any work starts. */
  | {
      readonly type: 'hello';
      readonly protocol: number;
      readonly python: string;
      readonly torch: string;
      readonly device: 'cuda' | 'mps' | 'cpu';
      readonly deviceName: string;
      readonly threads: number;
    }
  | {
      readonly type: 'progress';
      readonly id: number;
      readonly done: number;
      readonly total: number;
      readonly unit: string;
      readonly note?: string;
    }
  /** One optimizer step is done. Rates by group: `unet`, `text_encoder`. A number that is not finite travels as null. */
  | {
      readonly type: 'step';
      readonly id: number;
      readonly step: number;
      readonly total: number;
      readonly loss: number | null;
      readonly learning_rates: { readonly [group: string]: number | null };
      readonly grad_norm: number | null;
      readonly seconds: number;
    }
  /** A file is complete and flushed to the disk. */
  | { readonly type: 'artifact'; readonly id: number; readonly name: string; readonly path: string }
  | { readonly type: 'log'; readonly id: number; readonly level: 'info' | 'warning'; readonly message: string }
  | { readonly type: 'result'; readonly id: number; readonly outputs: { readonly [name: string]: string } }
  | { readonly type: 'failure'; readonly id: number; readonly failure: WorkerFailure };

export interface WorkerFailure {
  readonly kind: 'cancelled' | 'bad-input' | 'out-of-memory' | 'out-of-space' | 'non-finite' | 'internal';
  readonly message: string;
  readonly hint: string | null;
  readonly problems: readonly FileProblem[];
}

export type Work = Look | EncodeLatents | Train | Sample | Measure | Grid | Montage | Decompose | ReferenceNumbers;

/** A base: one file with everything, or the files of a diffusers folder, of each part all shards of one variant. */
export type ModelFiles =
  | string
  | {
      readonly unet: readonly string[];
      readonly text_encoder: readonly string[];
      readonly text_encoder_2: readonly string[];
      readonly vae: readonly string[];
      /** Its configuration, where there is one. */
      readonly scheduler: string | null;
    };

/** What the pixels of images tell. Output `looks` is JSON: name of the item to `PixelLook` (dataset/pixel-look.ts). */
export interface Look {
  readonly op: 'look';
  readonly items: readonly { readonly name: string; readonly image: string }[];
  readonly output: string;
}

/** VAE moments of images. Each item is written whole under its own name and announced by an `artifact` of that name. */
export interface EncodeLatents {
  readonly op: 'encode_latents';
  readonly checkpoint: ModelFiles;
  readonly vae_precision: 'fp32' | 'bf16';
  /** Whether pictures are turned upright first, or taken as they are stored. */
  readonly exif: 'apply' | 'ignore';
  /** Red, green and blue that show through transparent pixels. Null: alpha is thrown away. */
  readonly transparency: readonly [number, number, number] | null;
  /** area: what becomes smaller is averaged as OpenCV's INTER_AREA does it. */
  readonly resize_filter: 'lanczos' | 'area';
  readonly items: readonly {
    readonly name: string;
    readonly image: string;
    /** Width and height of the picture turned as `exif` says: what it is resized to, then cropped to from `crop` (left, top). */
    readonly resized: readonly [number, number];
    readonly crop: readonly [number, number];
    readonly bucket: readonly [number, number];
    readonly flip: boolean;
    /** What says how much each place counts: the image's alpha, or a picture of its shape, white for 1. None: all does. */
    readonly mask?: { readonly kind: 'alpha' } | { readonly kind: 'file'; readonly path: string };
    /**
     * A safetensors file with `mean` and `logvar`, F32, [4, bucket height / 8, bucket width / 8], unscaled, and with a
     * mask `mask`, F32, [bucket height / 8, bucket width / 8], from 0 to 1.
     */
    readonly output: string;
  }[];
}

/**
 * Outputs, all inside `work`: `lora`, `metrics` (JSON lines), `step.N` for each of `save_steps`, and `sample.N.I` for
 * the picture of prompt I (from 0) after step N where it could be made. An `artifact` of the output's name tells of a
 * saved step or a picture as soon as it is whole. A work folder that holds a state is gone on from. Where it ends
 * before its last step there is no `lora`. With `ema` there is then `ema` as well, the average of all steps. With
 * `held_out` there is `best`: the LoRA of the step that had the lowest loss there, which is the file of another output.
 */
export interface Train {
  readonly op: 'train';
  readonly checkpoint: ModelFiles;
  /** The folder that holds states, saved steps, samples and metrics, and survives a kill. */
  readonly work: string;
  readonly images: readonly {
    readonly digest: string;
    /** Tells equal images apart: 0 for the first. */
    readonly index: number;
    readonly latents: string;
    readonly latents_flipped: string | null;
    readonly caption: string;
    /** Pixels after EXIF orientation, before resizing: width, height. */
    readonly original: readonly [number, number];
    readonly resized: readonly [number, number];
    readonly crop: readonly [number, number];
    readonly bucket: readonly [number, number];
    readonly repeats: number;
    /** Half of all visits are of such images, where there are any. */
    readonly regularization: boolean;
    /** What says how much each place counts, known by its content. The latents then hold a `mask`. */
    readonly mask?: string;
  }[];
  readonly settings: TrainSettings;
  /** The LoRA that the network begins as. Without it, it begins by changing nothing. */
  readonly init?: { readonly lora: string; readonly digest: string } | undefined;
  /** Optimizer steps (1-based) whose LoRA is kept besides the last one. */
  readonly save_steps: readonly number[];
  /** The step that it ends after: the last of `settings.steps`, or an earlier one, where only that is asked for. */
  readonly until: number;
  /**
   * Images that are not learned from. After each of `steps` (1-based) all are noised to each of `timesteps`, with the
   * same noise every time, and the mean squared error of what is predicted is a line of the metrics.
   */
  readonly held_out: {
    readonly images: Train['images'];
    readonly timesteps: readonly number[];
    readonly steps: readonly number[];
  } | null;
  readonly samples: {
    /** 0: before the first step, with the bare checkpoint, or with `init`. */
    readonly steps: readonly number[];
    readonly prompts: readonly SamplePrompt[];
    /** What stands beside the pictures of each prompt in the montage. */
    readonly labels: readonly string[];
    /** PNGs of step 0 that there are already, by the number of the prompt. */
    readonly given: readonly { readonly index: number; readonly picture: string }[];
  };
  /** A state that a killed run goes on from is written this often; also when cancelled. */
  readonly state_every: { readonly steps: number } | { readonly seconds: number };
  /** The folder for TensorBoard's event files. `null`: there are none. */
  readonly events: string | null;
  /** Without it, the worker trains alone. It is no part of what the training is. */
  readonly launch?: Launch | undefined;
}

/** Processes that share the images of each step. */
export interface Launch {
  readonly kind: 'torchrun';
  /** On each machine. Null: one for each GPU. */
  readonly processes: number | null;
  /** The worker's own among them. */
  readonly machines: number;
  /** HOST:PORT, null where there is one machine. */
  readonly rendezvous: string | null;
  readonly wait_seconds: number;
}

/** What a program says of a checkpoint. `auto` is what its file says. */
export interface DiffusionProcess {
  readonly prediction: 'auto' | 'epsilon' | 'v';
  readonly zero_terminal_snr: 'auto' | 'on' | 'off';
}

export interface TrainSettings {
  /** Without it, all is as the file says. */
  readonly process?: DiffusionProcess | undefined;
  readonly seed: number;
  readonly captions: CaptionSettings;
  /** Null: there are no regularization images. The loss of each is multiplied by `prior_loss_weight`. */
  readonly regularization: { readonly captions: CaptionSettings; readonly prior_loss_weight: number } | null;
  readonly network: Network;
  readonly optimizer: Optimizer;
  readonly unet_lr: number;
  readonly text_encoder_lr: number;
  readonly loraplus_lr_ratio: number;
  /** Factors by block or layer, as ranks are. */
  readonly block_lr: RanksByBlock;
  readonly lr_scheduler: LrScheduler;
  readonly max_grad_norm: number;
  readonly steps: number;
  readonly batch_size: number;
  readonly gradient_accumulation_steps: number;
  /** sd_scripts: batches end with their bucket, steps with their epoch, and each batch weighs the same. */
  readonly accumulation: 'images' | 'sd_scripts';
  /** transposed: the pooled text is x·Pᵀ. */
  readonly text_projection: 'true' | 'transposed';
  /** Without it, the real one. sd_scripts: what it says of an image's crop. */
  readonly crop_conditioning?: 'real' | 'sd_scripts' | undefined;
  /** Without it, fresh. frozen: one draw from the VAE's posterior for each image, and one for its mirrored form. */
  readonly latents?: 'fresh' | 'frozen' | undefined;
  /** The length that ΔW of a module, of a locon or a lokr, is shortened to after each step. Without it, it is not. */
  readonly scale_weight_norms?: number | undefined;
  /** The decay of an average that is kept while it trains. Without it, there is none. */
  readonly ema?: number | undefined;
  /** Without it, masks are as they are: no place counts at least something, and the mean is not divided by theirs. */
  readonly masked_loss?: { readonly unmasked_weight: number; readonly normalize: boolean } | undefined;
  readonly noise:
    | {
        readonly kind: 'multires';
        readonly iterations: number;
        readonly discount: number;
        readonly std_axes: 'image' | 'batch';
      }
    | { readonly kind: 'plain' };
  /** Tokens of a caption that count: 75, 150 or 225. */
  readonly max_token_length: number;
  readonly mixed_precision: 'bf16' | 'fp32';
  readonly save_precision: 'fp16' | 'bf16' | 'fp32';
  readonly gradient_checkpointing: 'auto' | 'on' | 'off';
  /** How many of the UNet's transformer blocks wait in the host's memory. Without it, none. */
  readonly blocks_to_swap?: number | undefined;
  /** Whether transformer blocks are compiled. Without it, they are not. */
  readonly compile?: boolean | undefined;
  /** Whose frozen weights are stored in fp8: on is all models, unet the UNet alone. Without it, nobody's. */
  readonly fp8_base?: Fp8Base | undefined;
  /** Bytes of the device that the training may take. Without it, what is free. */
  readonly vram?: number | undefined;
  /** What becomes of a step whose loss or gradient is not finite. Ten skipped ones in a row stop a training as well. */
  readonly on_non_finite: 'stop' | 'skip';
  /** 0: none. */
  readonly noise_offset: number;
  readonly noise_offset_random_strength: boolean;
  readonly adaptive_noise_scale: number;
  /** 0: none. */
  readonly ip_noise_gamma: number;
  readonly ip_noise_gamma_random_strength: boolean;
  /** Timesteps are from `min_timestep` up to, not including, `max_timestep`. */
  readonly min_timestep: number;
  readonly max_timestep: number;
  readonly loss:
    | { readonly kind: 'l2' | 'l1' }
    | {
        readonly kind: 'huber' | 'smooth_l1';
        readonly c: number;
        readonly schedule: 'snr' | 'exponential' | 'constant';
        readonly scale: number;
      };
  /** Without it, no such weight. */
  readonly min_snr_gamma?: number | undefined;
  readonly scale_v_pred_loss_like_noise_pred: boolean;
  /** 0: none. */
  readonly v_pred_like_loss: number;
  readonly debiased_estimation: boolean;
  /** Pixels, for `modelspec.resolution`: width, height. */
  readonly resolution: readonly [number, number];
}

export type Fp8Base = 'off' | 'on' | 'unet';

/** What becomes of a caption at each visit of its image. Null: there is no such text. */
export interface CaptionSettings {
  readonly caption_prefix: string | null;
  readonly caption_suffix: string | null;
  readonly caption_dropout_rate: number;
  readonly caption_dropout_every_n_epochs: number;
  /** Captions may have several lines, of which one is picked. */
  readonly wildcards: boolean;
  readonly shuffle_caption: boolean;
  readonly caption_separator: string;
  readonly keep_tokens: number;
  readonly keep_tokens_separator: string | null;
  /** Steps; below 1 a share of all steps. */
  readonly token_warmup_step: number;
  readonly token_warmup_min: number;
  readonly caption_tag_dropout_rate: number;
  readonly secondary_separator: string | null;
}

/** What is trained beside which layers. */
export type Network =
  | ({ readonly kind: 'locon' | 'loha' } & RankedNetwork)
  /** Without `wd_on_output`, true: a length for each row. Else one for each column. */
  | ({ readonly kind: 'dora'; readonly wd_on_output?: boolean | undefined } & RankedNetwork)
  | ({
      readonly kind: 'lokr';
      readonly factor: number | 'balanced';
      readonly decompose_both: boolean;
      readonly full_matrix: boolean;
      /** Without it, false. */
      readonly unbalanced_factorization?: boolean | undefined;
    } & RankedNetwork)
  | ({ readonly kind: 'full' } & AnyNetwork);

interface AnyNetwork {
  readonly preset: 'full' | 'attn-mlp' | 'attn-only' | 'unet-only';
  /** Globs of kohya's names, of which a layer has to fit one. None: all layers of the preset. */
  readonly modules: readonly string[];
  readonly text_encoder_modules: 'all' | 'mlp';
  readonly train_norm: boolean;
  readonly dropout: number;
  readonly module_dropout: number;
}

export interface RankedNetwork extends AnyNetwork {
  readonly dim: number;
  readonly alpha: number;
  readonly conv_dim: number;
  readonly conv_alpha: number;
  /**
   * Ranks by block (`OUT01`, `TE1`), or by layer (`TE1.3`), which goes before its block. 0: no adapter. Keys without capitals
   * are patterns of layers' names (`*_attn2_to_k`): they go before blocks, and the one that fits fewest layers before others.
   */
  readonly dims: RanksByBlock;
  readonly conv_dims: RanksByBlock;
  /** Without it, linear. all: a 0 in `dims` leaves 3×3 convolutions and norms alone too, unless `conv_dims` has more. */
  readonly zero_dims?: 'linear' | 'all' | undefined;
  readonly rs_lora: boolean;
  readonly use_tucker: boolean;
  /** Without it, false. */
  readonly use_scalar?: boolean | undefined;
  readonly rank_dropout: number;
  readonly rank_dropout_scale: boolean;
}

export type RanksByBlock = { readonly [block: string]: number };

export interface SamplePrompt {
  readonly prompt: string;
  readonly negative_prompt: string;
  readonly width: number;
  readonly height: number;
  readonly seed: number;
  readonly steps: number;
  readonly scale: number;
  readonly sampler: 'euler_a';
}

/**
 * A LoRA in its canonical form, as it acts in one picture. ΔW is multiplied by `strength` and by its block's weight:
 * blocks are named as in programs (IN04, OUT01, TE1, REST …), `TE1.3` before `TE1`, and one that is not named has 0.
 */
export interface AppliedLora {
  readonly path: string;
  readonly strength: number;
  /** null: every block has 1. */
  readonly blocks: { readonly [block: string]: number } | null;
}

/** Pictures of prompts, each with one LoRA (null: the bare checkpoint). PNG; an `artifact` for each. Neighbours with one path load it once. */
export interface Sample {
  readonly op: 'sample';
  readonly checkpoint: ModelFiles;
  /** Without it, all is as the file says. */
  readonly process?: DiffusionProcess | undefined;
  readonly mixed_precision: 'bf16' | 'fp32';
  /** As the training had it whose LoRAs these are. Without it, no weight is stored in fp8. */
  readonly fp8_base?: Fp8Base | undefined;
  readonly items: readonly {
    readonly name: string;
    readonly lora: AppliedLora | null;
    readonly prompt: SamplePrompt;
    readonly output: string;
  }[];
}

/**
 * How far pictures are from each other: the root mean square of the differences of all sRGB values (0 to 255), over
 * 255. So 0 is equal and 1 is black against white. Output `distances` is JSON: name of the pair to its distance.
 */
export interface Measure {
  readonly op: 'measure';
  /** Paths of PNGs. The two of a pair have one size. */
  readonly pairs: readonly { readonly name: string; readonly first: string; readonly second: string }[];
  readonly output: string;
}

/** One labelled PNG of many, in columns and rows. Output `grid`. */
export interface Grid {
  readonly op: 'grid';
  readonly title: string;
  /** What stands above each column. */
  readonly columns: readonly string[];
  /** What stands beside each row; long ones are wrapped and cut. */
  readonly rows: readonly string[];
  /** `row` and `column` count from 0. A place without a cell stays empty. */
  readonly cells: readonly {
    readonly row: number;
    readonly column: number;
    readonly picture: string;
    /** A picture of the same size. Where there is one, a heat map of the difference stands below. */
    readonly compared: string | null;
    readonly caption: string;
  }[];
  readonly output: string;
}

/**
 * A training's pictures as a PNG with a row for each prompt and a column for each step, evenly thinned where there are
 * many, and as a WebP with a frame for each step. Outputs `montage` and `animation`.
 */
export interface Montage {
  readonly op: 'montage';
  /** What stands beside each row. */
  readonly labels: readonly string[];
  /** `row` counts from 0. */
  readonly pictures: readonly { readonly step: number; readonly row: number; readonly picture: string }[];
  readonly output: string;
  readonly animation: string;
}

/**
 * U, σ and V of every module of a file that is a LoRA, or with `extract` can be turned into one. Outputs `factors`
 * (safetensors) and `modules` (JSON list of names, sorted). The metadata of `factors` says of each module what family
 * it was and how exact its directions are, and of every other why it was skipped.
 */
export interface Decompose {
  readonly op: 'decompose';
  readonly lora: string;
  /** Modules of LoHa, LoKr, GLoRA and full become LoRA of at most this rank. Null: they are skipped. */
  readonly extract: number | null;
  /** The files of the base, which a GLoRA is extracted with: one, or those of a diffusers folder. */
  readonly checkpoints: readonly string[] | null;
  readonly factors: string;
  readonly modules: string;
}

/** Numbers of the base weights that resize recipes refer to. Output `numbers` is JSON: module name to number, or numbers per direction. */
export interface ReferenceNumbers {
  readonly op: 'frobenius' | 'spectral' | 'projections';
  /** The files of the base: one, or those of a diffusers folder. */
  readonly checkpoints: readonly string[];
  readonly modules: string;
  /** Only `projections` reads it. */
  readonly factors: string | null;
  readonly output: string;
}
