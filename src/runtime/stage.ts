// What a stage is: one kind of work, with named inputs and outputs, done natively or by the worker.
// Adding a stage is one file in `stages/` and one entry in its list.

import type { Digest } from './cache/digest.ts';
import type { WorkerClient } from './worker/client.ts';
import type { AbsolutePath, GraphNode } from './graph/graph.ts';
import type { StageProgress } from './events.ts';
import type { Store } from './cache/store.ts';

/** A stored result: bytes that never change, known by their digest. */
export interface Artifact {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Where the bytes lie now. Never part of a fingerprint. */
  readonly path: AbsolutePath;
}

/** What limits how many nodes run side by side: one on the GPU, as many as cores on the CPU, a few on the disk. */
export type Pool = 'gpu' | 'cpu' | 'io';

export interface Stage {
  readonly name: string;
  /** Part of every fingerprint. Raise it when the same inputs should give different bytes. */
  readonly revision: number;
  readonly pool: Pool;
  readonly runsIn: 'native' | 'worker';
  /**
   * Does the work. Throws `StageFailure` when the work cannot be done;
   * anything else that is thrown is our own mistake.
   */
  run(context: StageContext): Promise<StageResult>;
}

export interface StageContext {
  readonly node: GraphNode;
  /** Artifacts by role: the node's `inputs` and its `files` together. */
  readonly inputs: { readonly [role: string]: Artifact };
  /** A folder for this fingerprint alone. It survives failures and kills, so a later run can go on from it. */
  readonly work: AbsolutePath;
  readonly store: Store;
  /** Aborted when the user stops the run. */
  readonly signal: AbortSignal;
  report(progress: StageProgress): void;
  /** The one warm worker of this run, started at the first call. */
  worker(): Promise<WorkerClient>;
}

export interface StageResult {
  /** Finished files inside `work`, by output name. The executor hashes them, moves them into the store and publishes. */
  readonly outputs: { readonly [output: string]: AbsolutePath };
  /** Facts about how it was computed (device, versions): kept beside the result, never in the key. */
  readonly record?: { readonly [fact: string]: string | number };
}
