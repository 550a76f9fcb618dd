// Everything that can happen during a run, as one stream of values.
// The executor writes it; reporters read it and nothing else.

import type { Position } from '../parser/source.ts';

/** Why a node has to run. Recorded where the decision is made; plan, events and tests all read this one. */
export type StaleReason =
  | { readonly kind: 'never-built' }
  | { readonly kind: 'input-changed'; readonly input: string }
  | { readonly kind: 'input-will-change'; readonly input: string }
  | { readonly kind: 'attribute-changed'; readonly attribute: string; readonly from: string; readonly to: string }
  | { readonly kind: 'revision-changed'; readonly stage: string }
  | { readonly kind: 'result-lost'; readonly output: string }
  /** The stored result is whole, but has not this output, which the program asks for now. */
  | { readonly kind: 'output-missing'; readonly output: string }
  | { readonly kind: 'not-placed'; readonly path: string }
  | { readonly kind: 'asked-for' };

/** Why a node failed. `problems` names each bad file when there are several. */
export interface Failure {
  readonly kind: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly problems: readonly FileProblem[];
  /** The last lines that the worker wrote, oldest first. Empty for native stages. */
  readonly logTail: readonly string[];
}

export interface FileProblem {
  readonly path: string;
  readonly message: string;
}

/** What a stage can say while it works. */
export type StageProgress =
  | {
      readonly type: 'progress';
      readonly done: number;
      readonly total: number;
      readonly unit: string;
      readonly note?: string;
    }
  | {
      readonly type: 'step';
      readonly step: number;
      readonly total: number;
      readonly loss: number;
      readonly learningRates: { readonly [group: string]: number };
      readonly gradNorm: number;
      readonly elapsedMs: number;
    }
  /** A file that a user may want to look at before the stage ends: a saved step, a sample, the metrics. */
  | { readonly type: 'artifact'; readonly name: string; readonly path: string }
  /** `result` is what the user asked to know: it stays on the screen when the stage is over, as a warning does. */
  | { readonly type: 'log'; readonly level: 'info' | 'result' | 'warning'; readonly message: string };

export interface NodeSummary {
  readonly node: string;
  readonly stage: string;
  readonly origin: { readonly path: string } & Position;
}

export type RunEvent =
  | { readonly type: 'run-started'; readonly program: string; readonly nodes: readonly NodeSummary[] }
  | { readonly type: 'node-started'; readonly node: string; readonly because: StaleReason }
  | { readonly type: 'node-progress'; readonly node: string; readonly progress: StageProgress }
  | { readonly type: 'node-fresh'; readonly node: string; readonly savedMs: number | undefined }
  | { readonly type: 'node-computed'; readonly node: string; readonly because: StaleReason; readonly elapsedMs: number }
  | {
      readonly type: 'node-failed';
      readonly node: string;
      readonly failure: Failure;
      readonly origin: NodeSummary['origin'];
    }
  | { readonly type: 'node-skipped'; readonly node: string; readonly cause: string }
  /** The worker is being set up or started, or has told which device it uses. */
  | {
      readonly type: 'worker';
      readonly status: 'installing' | 'starting' | 'ready' | 'stopped';
      readonly message: string;
    }
  | { readonly type: 'message'; readonly level: 'info' | 'warning'; readonly message: string }
  | { readonly type: 'placed'; readonly node: string; readonly path: string; readonly sizeBytes: number }
  | { readonly type: 'stopping'; readonly message: string }
  | {
      readonly type: 'finished';
      readonly ok: boolean;
      readonly interrupted: boolean;
      readonly computed: readonly string[];
      readonly fresh: readonly string[];
      readonly failed: readonly string[];
      readonly skipped: readonly string[];
      readonly elapsedMs: number;
    };

export type Listener = (event: RunEvent) => void;

/** Thrown by a stage that cannot do its work; becomes the `Failure` of its node. */
export class StageFailure extends Error {
  readonly failure: Failure;
  constructor(failure: Partial<Failure> & { readonly kind: string; readonly message: string }) {
    super(failure.message);
    this.failure = { hint: undefined, problems: [], logTail: [], ...failure };
  }
}
