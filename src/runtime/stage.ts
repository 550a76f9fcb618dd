// What a stage is: one kind of work, with named inputs and outputs, done natively or by the worker.
// Adding a stage is one file in `stages/` and one entry in its list.

import type { Digest } from './cache/digest.ts';
import type { Entry } from './cache/entry.ts';
import type { Store } from './cache/store.ts';
import type { SurveyedImage } from './dataset/survey.ts';
import type { StageProgress } from './events.ts';
import type { AbsolutePath, GraphNode, NodeId } from './graph/graph.ts';
import type { Json } from './graph/json.ts';
import type { WorkerClient } from './worker/client.ts';

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
  /** Versions of the packages whose arithmetic shows in the result, as the lock file pins them. Part of the fingerprint. */
  tools?(): { readonly [tool: string]: string };
  /** So cheap, and so telling, that a plan runs it as well: what follows is then known instead of guessed. */
  readonly runsInPlan?: boolean;
  /** The form of what a program wrote that is equal whenever the meaning is. Without it, attributes are as written. */
  canonical?(written: { readonly [name: string]: Json }): { readonly [name: string]: Json };
  /**
   * For a stage that reads more than named files: looks at what is there now, in every run, before it is decided
   * whether the stage is fresh. What it finds joins the fingerprint. Throws `StageFailure` when it is not good enough.
   */
  survey?(context: SurveyContext): Promise<Survey>;
  /**
   * Does the work. Throws `StageFailure` when the work cannot be done;
   * anything else that is thrown is our own mistake.
   */
  run(context: StageContext): Promise<StageResult>;
  /** For a stage with something to look at in `runs/<block>/`. */
  readonly shown?: Shown;
}

export interface Shown {
  /** The block whose folder it is. Other nodes of the block may have something there as well. */
  block(node: GraphNode): string;
  /**
   * Lays out all that a stored result has to show, whether it was made now or long ago. Called unless the folder is known
   * to have it already. Returns whether it does now: what could not be copied is told, and fails nothing.
   */
  layOut(context: ShowContext): Promise<boolean>;
}

export interface ShowContext extends Pick<StageContext, 'node' | 'inputs' | 'store' | 'report'> {
  readonly entry: Entry;
  /** Of the nodes that this one reads from. */
  readonly entries: ReadonlyMap<NodeId, Entry>;
}

export interface SurveyContext {
  readonly node: GraphNode;
  readonly store: Store;
  readonly signal: AbortSignal;
  /** Tells the user about something that takes a while. */
  say(message: string): void;
}

/** What a stage found around it. */
export interface Survey {
  /** By role, as for inputs: part of the fingerprint, so free of paths and times. */
  readonly digests: { readonly [role: string]: Digest };
  readonly images: readonly SurveyedImage[];
}

export interface StageContext {
  readonly node: GraphNode;
  /** What this node's own `survey` found. */
  readonly survey: Survey | undefined;
  /** Where the images of all surveys of this run lie. Results name images by digest, since paths may change. */
  readonly imagePaths: ReadonlyMap<Digest, AbsolutePath>;
  /**
   * Throws unless these files of the user's are still what this run took them for. To be called before something that
   * was made of them is published by the stage itself; for the node's outputs and `files` the executor does it.
   */
  requireUnchanged(paths: readonly AbsolutePath[]): Promise<void>;
  /** Artifacts by role: the node's `inputs` and its `files` together. */
  readonly inputs: { readonly [role: string]: Artifact };
  /**
   * For work that was done before and is stored, but lacks outputs that are asked for now: those outputs. What the stage
   * gives is added to what there is, and replaces nothing.
   */
  readonly missing: readonly string[] | undefined;
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
  /** Stored blobs that the outputs name and that are needed to use them, such as one per image. */
  readonly members?: readonly Digest[];
  /** Facts about how it was computed (device, versions): kept beside the result, never in the key. */
  readonly record?: { readonly [fact: string]: string | number };
}
