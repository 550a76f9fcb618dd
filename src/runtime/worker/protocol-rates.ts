// The part of the protocol that says how weights are updated. python/lora_worker/schedules.py is its other half.

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
  | { readonly kind: 'piecewise_constant'; readonly step_rules: string };
