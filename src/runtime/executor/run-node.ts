// Does the work of one stale node: alone at its fingerprint, in its own work folder, published at the end.

import { realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { place } from '../cache/place.ts';
import type { Entry, Store } from '../cache/store.ts';
import { damagedStore } from '../cache/store-failures.ts';
import { type Listener, StageFailure } from '../events.ts';
import { type AbsolutePath, type GraphNode, targetOf } from '../graph/graph.ts';
import type { StageContext } from '../stage.ts';
import { artifactsOf } from './artifacts.ts';
import { type Entries, type Examined, type Examiner, lostOutput } from './examine.ts';
import type { Pools } from './pools.ts';
import { beginShowing, showResult } from './show.ts';

/** What all nodes of a run share. */
export interface Run {
  readonly store: Store;
  readonly examiner: Examiner;
  readonly pools: Pools;
  readonly signal: AbortSignal;
  readonly emit: Listener;
  readonly worker: StageContext['worker'];
  /** Files that the program reads, by `realPlace`: no result may ever be placed upon one. */
  readonly sources: ReadonlySet<AbsolutePath>;
  /** Folders in `runs/` of which it has been said that they show something else than before. */
  readonly shownAgain: Set<AbsolutePath>;
}

/** `fresh`: another process, or a run that was killed while it published, had it already. */
export type Done = { readonly status: 'fresh' | 'computed'; readonly entry: Entry };

type Stale = Extract<Examined, { readonly status: 'stale' }>;
type Unplaced = Extract<Examined, { readonly status: 'unplaced' }>;

/** Computes a stale node, places its result, and tells so. */
export async function runNode(run: Run, node: GraphNode, stale: Stale, entries: Entries): Promise<Done> {
  return run.pools.within(node.stage.pool, async () => {
    const { store, signal, emit } = run;
    signal.throwIfAborted();
    const onWait = (holder: number | undefined) => {
      // Another node of this very run does the same work: nothing to tell anybody.
      if (holder !== process.pid) emit(waiting(node, holder));
    };
    const lock = await store.lock(stale.fingerprint, { signal, onWait });
    try {
      const before = performance.now();
      const known = await alreadyThere(run, node, stale);
      if (known === undefined) emit({ type: 'node-started', node: node.id, because: stale.because });
      const entry = known ?? (await compute(run, node, stale, entries));
      await store.removeWork(stale.fingerprint);
      if (stale.key.generation !== undefined) store.generations.set(stale.base, stale.key.generation);
      await putInPlace(run, node, entry);
      await showResult(run, { node, entry, entries, isNew: known === undefined });
      if (known) emit({ type: 'node-fresh', node: node.id, savedMs: savedMs(known) });
      else
        emit({
          type: 'node-computed',
          node: node.id,
          because: stale.because,
          elapsedMs: Math.round(performance.now() - before),
        });
      return { status: known ? 'fresh' : 'computed', entry };
    } finally {
      lock.release();
    }
  });
}

/** Places a result that is stored already, and tells so. */
export async function placeNode(run: Run, node: GraphNode, { entry, because }: Unplaced): Promise<Done> {
  return run.pools.within(node.stage.pool, async () => {
    run.signal.throwIfAborted();
    const before = performance.now();
    run.emit({ type: 'node-started', node: node.id, because });
    await putInPlace(run, node, entry);
    run.emit({ type: 'node-computed', node: node.id, because, elapsedMs: Math.round(performance.now() - before) });
    return { status: 'computed', entry };
  });
}

/** How long the stored result took to compute. */
export function savedMs(entry: Entry): number | undefined {
  const { elapsedMs } = entry.record;
  return typeof elapsedMs === 'number' ? elapsedMs : undefined;
}

/** What another process has published since we looked, or what a killed one had nearly published. */
async function alreadyThere({ store, examiner }: Run, node: GraphNode, stale: Stale): Promise<Entry | undefined> {
  const isWhole = (entry: Entry | undefined): entry is Entry =>
    entry !== undefined && lostOutput(store, entry) === undefined && examiner.lacking(node, entry).length === 0;
  const stored = await store.lookupEntry(stale.fingerprint);
  if (isWhole(stored)) return stored;
  const finished = await store.finishPublish(stale.fingerprint);
  return isWhole(finished) ? finished : undefined;
}

async function compute(run: Run, node: GraphNode, stale: Stale, entries: Entries): Promise<Entry> {
  const { store, examiner, signal, emit, worker } = run;
  const work = await store.workFolder(stale.fingerprint);
  const startedMs = performance.now();
  const files = Object.values(node.files);
  // It may have waited for long.
  await examiner.requireUnchanged(node, files);
  const inputs = artifactsOf(store, node, stale.key, entries);
  await beginShowing(run, node);
  const context: StageContext = {
    node,
    survey: await examiner.survey(node),
    imagePaths: examiner.imagePaths,
    requireUnchanged: (paths) => examiner.requireUnchanged(node, paths),
    inputs,
    missing: stale.incomplete && examiner.lacking(node, stale.incomplete),
    work,
    store,
    signal,
    report: (progress) => emit({ type: 'node-progress', node: node.id, progress }),
    worker,
  };
  const result = await node.stage.run(context).catch(async (error: unknown) => {
    requireStore(store, work, node);
    if (mayBeDamage(error)) await requireWhole(store, node, entries);
    throw error;
  });
  await examiner.requireUnchanged(node, files);
  return store.publishEntry(stale.fingerprint, stale.key, result.outputs, {
    record: { ...result.record, elapsedMs: Math.round(performance.now() - startedMs) },
    members: result.members ?? [],
    from: work,
  });
}

/** Whether a stage may have failed because it was given something else than what was stored. */
function mayBeDamage(error: unknown): boolean {
  if (!(error instanceof StageFailure)) return !(error instanceof Error && error.name === 'AbortError');
  return ['bad-input', 'non-finite', 'internal', 'worker-died'].includes(error.failure.kind);
}

/** Without its work folder a stage fails in one of many ways, none of which says what happened. */
function requireStore({ folder }: Store, work: AbsolutePath, { id }: GraphNode): void {
  if (statSync(work, { throwIfNoEntry: false }) !== undefined) return;
  throw new StageFailure({
    kind: 'store-gone',
    message: `The store "${folder}" was deleted while "${id}" was working in it.`,
    hint: 'Build again. Delete a store only when nothing runs.',
  });
}

/** Reads all that a failed node was given from the store. Throws when some of it is damaged. */
async function requireWhole(store: Store, node: GraphNode, entries: Entries): Promise<void> {
  const given = Object.values(node.inputs).flatMap(({ node: from, output }) => {
    const entry = entries.get(from);
    return [...(entry?.members ?? []), ...(entry?.outputs[output] ? [entry.outputs[output].digest] : [])];
  });
  if ((await store.removeDamaged(given)) > 0) throw damagedStore(store.folder, `"${node.id}" could not be computed`);
}

async function putInPlace(run: Run, node: GraphNode, entry: Entry): Promise<void> {
  if (node.placement === undefined) return;
  const { output } = node.placement;
  const target = targetOf(node.placement, entry.record);
  const artifact = entry.outputs[output];
  if (artifact === undefined) throw new Error(`Internal error: "${node.id}" gives no "${output}".`);
  if (run.sources.has(realPlace(target))) {
    throw new StageFailure({
      kind: 'target-is-input',
      message: `"${target}" is a file that this program reads, so nothing is saved over it.`,
      hint: 'Save under another name.',
    });
  }
  const { kept } = await place(run.store, artifact, { ...node.placement, target }, { signal: run.signal });
  if (kept !== undefined) {
    const message = `"${target}" had been changed by somebody. Their file is now "${kept}".`;
    run.emit({ type: 'message', level: 'warning', message });
  }
  run.emit({ type: 'placed', node: node.id, path: target, sizeBytes: artifact.sizeBytes });
}

/** A path with the links in the folders above it followed: two names of one place come out the same. */
export function realPlace(path: AbsolutePath): AbsolutePath {
  try {
    return join(realpathSync(dirname(path)), basename(path)) as AbsolutePath;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    // No such folder yet, or one that cannot be looked into.
    return path;
  }
}

function waiting(node: GraphNode, holder: number | undefined) {
  const who = holder === undefined ? 'Another process' : `Process ${holder}`;
  const message = `${who} is computing "${node.id}" already. Waiting for it.`;
  return { type: 'message', level: 'info', message } as const;
}
