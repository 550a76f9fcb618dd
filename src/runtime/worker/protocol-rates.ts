// The part of the protocol that says how weights are updated. python/lora_worker/optimizers.py and schedules.py are its
// other half.

import type { Arguments, ScheduleExpression } from '../../parser/model.ts';

type Pair = readonly [number, number];

export type Optimizer =
  | {
      readonly kind: 'SAVEUS';
      readonly betas: readonly [number, number];
      readonly eps: number;
      readonly weight_decay: number;
      readonly decouple_weight_decay: boolean;
      readonly centralization: number;
      readonly normalization: number;
      readonly normalization_mode: 'full' | 'lerp';
      readonly normalize_channels: boolean;
      readonly amp_fac: number;
      readonly clip_gradients: boolean;
      readonly clip_lambda: ScheduleExpression;
    }
  | {
      readonly kind: 'AdamW' | 'AdamW8bit';
      readonly betas: Pair;
      readonly eps: number;
      readonly weight_decay: number;
    }
  | {
      readonly kind: 'Adafactor';
      readonly eps: Pair;
      readonly clip_threshold: number;
      readonly decay_rate: number;
      readonly beta1?: number | undefined;
      readonly weight_decay: number;
      readonly scale_parameter: boolean;
    }
  | {
      readonly kind: 'Prodigy';
      readonly betas: Pair;
      readonly beta3?: number | undefined;
      readonly eps: number;
      readonly weight_decay: number;
      readonly decouple_weight_decay: boolean;
      readonly use_bias_correction: boolean;
      readonly safeguard_warmup: boolean;
      readonly d0: number;
      readonly d_coef: number;
      readonly growth_rate?: number | undefined;
    }
  | { readonly kind: 'Lion'; readonly betas: Pair; readonly weight_decay: number }
  | {
      readonly kind: 'CAME';
      readonly betas: readonly [number, number, number];
      readonly eps: Pair;
      readonly clip_threshold: number;
      readonly weight_decay: number;
    }
  /** Any class of torch.optim.Optimizer that the worker's Python can import, as "package.module.Class". */
  | { readonly kind: 'python'; readonly class: string; readonly args?: Arguments | undefined };

/** `warmup` and `decay` are steps, or below 1 shares of all steps. Factors are those of transformers and diffusers. */
export type LrScheduler =
  | { readonly kind: 'constant' }
  | { readonly kind: 'constant_with_warmup' | 'linear'; readonly warmup: number }
  /** `num_cycles` counts whole waves, and of `cosine_with_restarts` the half waves. */
  | { readonly kind: 'cosine' | 'cosine_with_restarts'; readonly num_cycles: number; readonly warmup: number }
  | { readonly kind: 'polynomial'; readonly power: number; readonly lr_end: number; readonly warmup: number }
  /** Without `timescale`: the warm-up, or 10,000 steps. */
  | { readonly kind: 'inverse_sqrt'; readonly timescale?: number | undefined; readonly warmup: number }
  | {
      readonly kind: 'cosine_with_min_lr';
      readonly min_lr_ratio: number;
      readonly num_cycles: number;
      readonly warmup: number;
    }
  | {
      readonly kind: 'warmup_stable_decay';
      readonly decay: number;
      readonly decay_type: 'linear' | 'cosine' | '1-sqrt';
      readonly warmup_type: 'linear' | 'cosine' | '1-sqrt';
      readonly min_lr_ratio: number;
      readonly num_cycles: number;
      readonly warmup: number;
    }
  /** As diffusers writes it: "1:10,0.1:20,0.01". */
  | { readonly kind: 'piecewise_constant'; readonly step_rules: string }
  /** min(m, 1/√i) in step i, from 1, with m = 1e-2 or, warming up, 1e-6·i. Rates are factors of that. */
  | { readonly kind: 'adafactor'; readonly warmup_init: boolean }
  /** Any class of torch.optim.lr_scheduler.LRScheduler that the worker's Python can import, stepped after each step. */
  | { readonly kind: 'python'; readonly class: string; readonly args?: Arguments | undefined };
