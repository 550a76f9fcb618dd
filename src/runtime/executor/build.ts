// Walks a graph: `runBuild` makes everything so, `planBuild` only says what that would take.
//
//   runBuild({ graph, store, listener, targets?, rerun?, signal?, startWorker?, concurrency? }): Promise<Finished>
//   planBuild({ graph, store, targets?, rerun?, signal?, listener? }): Promise<Plan>
//
// Rules:
// - A node runs when all it is made from is done, its pool has room, and its fingerprint has no result yet.
// - What does not depend on a failed node goes on; what does is skipped and names the cause.
// - A node whose result comes out with the same bytes leaves what follows fresh: fingerprints hold digests.
// - Aborting the signal asks running stages to save what they can and starts no others. States and results are kept.
// - A thrown error that is no `StageFailure` is our own mistake: what runs is stopped in the same way, then it is thrown.
// - The worker is started at the first need and closed at the end. `startWorker` tells about installing and starting
//   it by `worker` events of its own.

import { resolve } from 'node:path';
import { positionOf } from '../../parser/source.ts';
import type { Entry } from '../cache/entry.ts';
import type { Store } from '../cache/store.ts';
import type { Failure, Listener, NodeSummary, RunEvent, StaleReason } from '../events.ts';
import type { AbsolutePath, Graph, GraphNode, NodeId } from '../graph/graph.ts';
import type { WorkerClient } from '../worker/client.ts';
import { Examiner, wantedOutputs } from './examine.ts';
import { failureOf } from './failures.ts';
import { defaultPools, type PoolSizes, Pools } from './pools.ts';
import { placeNode, type Run, realPlace, runNode, savedMs } from './run-node.ts';
import { type Scanned, scan, targetsInTheWay } from './scan.ts';
import { nodesToRerun, selectNodes, unknownTargets } from './select.ts';
import { showResult } from './show.ts';
import { warmWorker } from './warm-worker.ts';

export interface BuildOptions {
  readonly graph: Graph;
  readonly store: Store;
  readonly listener: Listener;
  /** Names of blocks or nodes; only they and what they are made from are looked at. Empty: all. See `unknownTargets`. */
  readonly targets?: readonly string[];
  /** Names of blocks or nodes whose work is to be done once more, as a new generation. */
  readonly rerun?: readonly string[];
  readonly signal?: AbortSignal;
  readonly startWorker?: () => Promise<WorkerClient>;
  /** How many nodes of each pool run side by side, where it is not the usual number. */
  readonly concurrency?: Partial<PoolSizes>;
  /** What is worth saying before any work begins, given the nodes that are not fresh: told as warnings. */
  readonly advise?: (stale: ReadonlySet<NodeId>) => Promise<readonly string[]>;
  /** In which order nodes are looked at that do not depend on each other. Tests shuffle here. */
  readonly order?: (nodes: readonly GraphNode[]) => readonly GraphNode[];
}

export type Finished = Extract<RunEvent, { readonly type: 'finished' }>;

export interface Plan {
  /** In the graph's order. */
  readonly nodes: readonly PlannedNode[];
  /** What will be in the way. */
  readonly warnings: readonly string[];
}

/**
 * `runs` is certain; `waits` runs unless what it waits for comes out as it was; `fails` cannot even begin, and what
 * needs it is `skipped`. There is a reason for every node that runs or waits.
 */
export type PlannedNode = { readonly node: string; readonly stage: string } & (
  | { readonly status: 'fresh' }
  | { readonly status: 'runs' | 'waits'; readonly because: StaleReason }
  | { readonly status: 'fails'; readonly failure: Failure; readonly origin: NodeSummary['origin'] }
  | { readonly status: 'skipped'; readonly cause: NodeId }
);

type Outcome =
  | { readonly status: 'fresh' | 'computed'; readonly entry: Entry }
  | { readonly status: 'failed' | 'stopped' }
  | { readonly status: 'skipped'; readonly cause: NodeId };

/** Builds the targets. Every event goes to the listener, the last being the one that is returned. */
export async function runBuild(options: BuildOptions): Promise<Finished> {
  const { store, listener: emit } = options;
  const startedMs = performance.now();
  const nodes = selected(options);
  const bug = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, bug.signal]) : bug.signal;
  const worker = warmWorker(options.startWorker);
  const examiner = examinerOf(options, nodes, signal);
  const pools = new Pools({ ...defaultPools(), ...options.concurrency });
  const run: Run = {
    store,
    examiner,
    pools,
    signal,
    emit,
    worker: worker.get,
    sources: sourcesOf(nodes),
    shownAgain: new Set(),
  };

  emit({ type: 'run-started', program: options.graph.program, nodes: nodes.map(summaryOf) });
  const onStop = () => emit({ type: 'stopping', message: 'Stopping. What is done so far is being saved.' });
  if (options.signal?.aborted) onStop();
  else options.signal?.addEventListener('abort', onStop, { once: true });
  try {
    const scanned = await scan(nodes, { examiner, store });
    const stale = new Set(nodes.map(({ id }) => id).filter((id) => scanned.get(id)?.status !== 'fresh'));
    if (stale.size > 0) {
      // What was read to get here is not read again, whatever happens now.
      await store.save();
      const warnings = [
        ...(await targetsInTheWay(nodes, scanned, store)),
        ...(signal.aborted ? [] : ((await options.advise?.(stale)) ?? [])),
      ];
      for (const message of warnings) emit({ type: 'message', level: 'warning', message });
    }
    examiner.readAhead(nodes.filter(({ id }) => ['runs', 'waits'].includes(scanned.get(id)?.status ?? '')));
    const outcomes = await settleAll({ run, nodes: options.order?.(nodes) ?? nodes, scanned, bug });
    if ([...outcomes.values()].some(({ status }) => status === 'computed')) await store.tidy();
    await store.save();
    const finished = summarize(nodes, outcomes, options.signal?.aborted ?? false, performance.now() - startedMs);
    emit(finished);
    return finished;
  } finally {
    options.signal?.removeEventListener('abort', onStop);
    await worker.close();
  }
}

/** Says for every node whether it would run, and why. Runs nothing but stages that cost next to nothing. */
export async function planBuild(
  options: Omit<BuildOptions, 'listener' | 'startWorker' | 'concurrency' | 'order' | 'advise'> & {
    readonly listener?: Listener;
  },
): Promise<Plan> {
  const { store, listener = () => {} } = options;
  const nodes = selected(options);
  const signal = options.signal ?? new AbortController().signal;
  const worker = warmWorker(undefined);
  const examiner = examinerOf({ ...options, listener }, nodes, signal);
  const pools = new Pools(defaultPools());
  const run: Run = {
    store,
    examiner,
    pools,
    signal,
    emit: () => {},
    worker: worker.get,
    sources: sourcesOf(nodes),
    shownAgain: new Set(),
  };
  const scanned = await scan(nodes, {
    examiner,
    store,
    runCheaply: async (node, stale, entries) =>
      node.stage.runsInPlan ? (await runNode(run, node, stale, entries)).entry : undefined,
  });
  const warnings = await targetsInTheWay(nodes, scanned, store);
  await store.save();
  const causes = causesOfSkips(nodes, scanned);
  return { nodes: nodes.flatMap((node) => planned(node, scanned.get(node.id), causes.get(node.id))), warnings };
}

/** Nodes that need one that fails, and which it is. */
function causesOfSkips(
  nodes: readonly GraphNode[],
  scanned: ReadonlyMap<NodeId, Scanned>,
): ReadonlyMap<NodeId, NodeId> {
  const causes = new Map<NodeId, NodeId>();
  for (const { id, inputs } of nodes) {
    const failing = Object.values(inputs)
      .map(({ node }) => (scanned.get(node)?.status === 'fails' ? node : causes.get(node)))
      .find((cause) => cause !== undefined);
    if (failing !== undefined && scanned.get(id)?.status !== 'fails') causes.set(id, failing);
  }
  return causes;
}

function planned(node: GraphNode, scanned: Scanned | undefined, cause: NodeId | undefined): readonly PlannedNode[] {
  const name = { node: node.id, stage: node.stage.name };
  if (cause !== undefined) return [{ ...name, status: 'skipped', cause }];
  switch (scanned?.status) {
    case 'fresh':
      return [{ ...name, status: 'fresh' }];
    case 'runs':
    case 'waits':
      return [{ ...name, status: scanned.status, because: scanned.because }];
    case 'fails':
      return [{ ...name, status: 'fails', failure: scanned.failure, origin: originOf(node) }];
    default:
      return [];
  }
}

/** Starts every node as soon as what it is made from is settled, and waits for all of them. */
async function settleAll(options: {
  readonly run: Run;
  readonly nodes: readonly GraphNode[];
  readonly scanned: ReadonlyMap<NodeId, Scanned>;
  readonly bug: AbortController;
}): Promise<ReadonlyMap<NodeId, Outcome>> {
  const { nodes, scanned, bug } = options;
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const needed = usedByOthers(nodes, scanned);
  const outcomes = new Map<NodeId, Outcome>();
  const started = new Map<NodeId, Promise<void>>();
  const entries = new Map<NodeId, Entry>();
  const begun = new Set<string>();
  const run: Run = {
    ...options.run,
    emit: (event) => {
      if (event.type === 'node-started') begun.add(event.node);
      options.run.emit(event);
    },
  };

  const settle = (node: GraphNode): Promise<void> => {
    const known = started.get(node.id);
    if (known) return known;
    const inputs = [...new Set(Object.values(node.inputs).map((input) => input.node))];
    const settled = Promise.all(inputs.map((id) => settle(byId.get(id) as GraphNode))).then(async () => {
      const outcome = await settleNode(inputs, node);
      outcomes.set(node.id, outcome);
      if ('entry' in outcome) entries.set(node.id, outcome.entry);
    });
    started.set(node.id, settled);
    return settled;
  };

  const settleNode = async (inputs: readonly NodeId[], node: GraphNode): Promise<Outcome> => {
    const { emit, examiner } = run;
    for (const input of inputs) {
      const before = outcomes.get(input);
      if (before?.status === 'stopped') return { status: 'stopped' };
      if (before?.status !== 'failed' && before?.status !== 'skipped') continue;
      const cause = before.status === 'skipped' ? before.cause : input;
      emit({ type: 'node-skipped', node: node.id, cause });
      return { status: 'skipped', cause };
    }
    if (run.signal.aborted) return { status: 'stopped' };
    try {
      const known = scanned.get(node.id);
      const isKnown = known?.status === 'fresh' && !needed.has(node.id);
      const examined = isKnown ? known.examined : await examiner.examine(node, entries, needed.has(node.id));
      if (examined.status === 'fresh') {
        await showResult(run, { node, entry: examined.entry, entries, isNew: false });
        emit({ type: 'node-fresh', node: node.id, savedMs: savedMs(examined.entry) });
        examiner.recordHistory(node, examined.fingerprint);
        return { status: 'fresh', entry: examined.entry };
      }
      const done =
        examined.status === 'unplaced'
          ? await placeNode(run, node, examined)
          : await runNode(run, node, examined, entries);
      examiner.recordHistory(node, examined.fingerprint);
      await run.store.save();
      return done;
    } catch (error) {
      const failure = failureOf(error, run.store.folder);
      if (failure === undefined) throw error;
      const isStopped = failure.kind === 'cancelled' && run.signal.aborted;
      // One that never began has nothing to say about having been stopped.
      if (!isStopped || begun.has(node.id))
        emit({ type: 'node-failed', node: node.id, failure, origin: originOf(node) });
      return { status: isStopped ? 'stopped' : 'failed' };
    }
  };

  const results = await Promise.allSettled(
    nodes.map((node) =>
      settle(node).catch((error) => {
        bug.abort();
        throw error;
      }),
    ),
  );
  const broken = results.find((result) => result.status === 'rejected');
  if (broken) throw broken.reason;
  return outcomes;
}

/** Nodes whose results will be read by one that may run, so that all that they name has to be there. */
function usedByOthers(nodes: readonly GraphNode[], scanned: ReadonlyMap<NodeId, Scanned>): ReadonlySet<NodeId> {
  const active = nodes.filter(({ id }) => scanned.get(id)?.status !== 'fresh');
  return new Set(active.flatMap((node) => Object.values(node.inputs).map((input) => input.node)));
}

function selected({ graph, targets = [], rerun = [] }: Pick<BuildOptions, 'graph' | 'targets' | 'rerun'>) {
  const [unknown] = unknownTargets(graph, [...targets, ...rerun]);
  if (unknown !== undefined) throw new Error(`Internal error: there is no block "${unknown}".`);
  return selectNodes(graph, targets);
}

function examinerOf(
  { graph, store, rerun = [], listener }: Pick<BuildOptions, 'graph' | 'store' | 'rerun' | 'listener'>,
  nodes: readonly GraphNode[],
  signal: AbortSignal,
): Examiner {
  return new Examiner({
    store,
    wanted: wantedOutputs(nodes),
    program: store.nameOf(resolve(graph.program) as AbsolutePath),
    rerun: new Set(rerun.flatMap((name) => nodesToRerun({ nodes }, name)).map(({ id }) => id)),
    signal,
    say: (message) => listener({ type: 'message', level: 'info', message }),
  });
}

function summarize(
  nodes: readonly GraphNode[],
  outcomes: ReadonlyMap<NodeId, Outcome>,
  isInterrupted: boolean,
  elapsedMs: number,
): Finished {
  const named = (status: Outcome['status']) =>
    nodes.filter(({ id }) => outcomes.get(id)?.status === status).map(({ id }) => id);
  const ok = [...outcomes.values()].every(({ status }) => status === 'fresh' || status === 'computed');
  return {
    type: 'finished',
    ok,
    interrupted: isInterrupted && named('stopped').length > 0,
    computed: named('computed'),
    fresh: named('fresh'),
    failed: named('failed'),
    skipped: named('skipped'),
    elapsedMs: Math.round(elapsedMs),
  };
}

function summaryOf(node: GraphNode): NodeSummary {
  return { node: node.id, stage: node.stage.name, origin: originOf(node) };
}

function originOf({ origin }: GraphNode): NodeSummary['origin'] {
  return { path: origin.source.path, ...positionOf(origin) };
}

function sourcesOf(nodes: readonly GraphNode[]): ReadonlySet<AbsolutePath> {
  return new Set(nodes.flatMap((node) => Object.values(node.files)).map(realPlace));
}
