// What lorac inspect has found out, before it is told as text or as JSON.

import type { Comparison } from '../runtime/inspect/compare.ts';
import type { Difference, Norms } from '../runtime/inspect/norms.ts';
import type { LoraReport } from '../runtime/inspect/report.ts';
import type { WhatFile } from '../runtime/inspect/what-file.ts';
import type { FileHashes } from '../runtime/safetensors/hashes.ts';

/** All that is told of one LoRA. */
export interface Inspected {
  readonly report: LoraReport;
  readonly hashes: FileHashes | undefined;
  readonly norms: Norms | undefined;
  /** The store whose decomposition norms came from; `undefined` where all were measured. */
  readonly normsFrom: string | undefined;
  /** ‖W‖ by block, where the second file is the base. */
  readonly base: ReadonlyMap<string, number> | undefined;
  readonly warnings: readonly string[];
}

export interface Compared {
  readonly second: Inspected;
  readonly comparison: Comparison;
  readonly difference: Difference | undefined;
}

export type OtherFile = Exclude<WhatFile, { kind: 'lora' }>;
