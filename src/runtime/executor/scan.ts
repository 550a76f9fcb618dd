// How a program stands before anything runs: for every node whether it is fresh, runs, or waits for what others give.

import { refusal, targetState } from '../cache/place.ts';
import type { Entry, Store } from '../cache/store.ts';
import { type Failure, StageFailure, type StaleReason } from '../events.ts';
import { type GraphNode, type NodeId, targetOf } from '../graph/graph.ts';
import { type Examined, type Examiner, ownPart } from './examine.ts';
import { failureOf } from './failures.ts';
import { inputName, ownChange } from './reasons.ts';

export type Scanned =
  | { readonly status: 'fresh'; readonly examined: Examined & { readonly status: 'fresh' } }
  /** Certain to run. `entry` is there when it was cheap enough to have been run already, for a plan. */
  | { readonly status: 'runs'; readonly because: StaleReason; readonly entry: Entry | undefined }
  /** Runs unless its inputs come out as they were. */
  | { readonly status: 'waits'; readonly because: StaleReason }
  | { readonly status: 'fails'; readonly failure: Failure }
  | { readonly status: 'stopped' };

/** Runs a stale node for real, in a plan; `undefined` where that would cost too much. */
export type RunCheaply = (
  node: GraphNode,
  stale: Examined & { readonly status: 'stale' },
  entries: ReadonlyMap<NodeId, Entry>,
) => Promise<Entry | undefined>;

/** Looks at all nodes, side by side where they do not depend on each other. */
export async function scan(
  nodes: readonly GraphNode[],
  options: { readonly examiner: Examiner; readonly store: Store; readonly runCheaply?: RunCheaply },
): Promise<ReadonlyMap<NodeId, Scanned>> {
  const scanned = new Map<NodeId, Promise<Scanned>>();
  const entries = new Map<NodeId, Entry>();
  for (const node of nodes) {
    const inputs = Object.values(node.inputs).map((input) => scanned.get(input.node));
    scanned.set(
      node.id,
      Promise.all(inputs).then(() => scanNode(node, entries, options)),
    );
  }
  await Promise.all(scanned.values());
  const results = new Map<NodeId, Scanned>();
  for (const node of nodes) results.set(node.id, (await scanned.get(node.id)) as Scanned);
  return results;
}

async function scanNode(
  node: GraphNode,
  entries: Map<NodeId, Entry>,
  { examiner, store, runCheaply }: Parameters<typeof scan>[1],
): Promise<Scanned> {
  try {
    const unknown = Object.entries(node.inputs).find(([, input]) => !entries.has(input.node));
    if (unknown) return await scanWaiting(node, unknown[0], examiner);
    const examined = await examiner.examine(node, entries, false);
    if (examined.status === 'stale') {
      const entry = await runCheaply?.(node, examined, entries);
      if (entry) entries.set(node.id, entry);
      return { status: 'runs', because: examined.because, entry };
    }
    entries.set(node.id, examined.entry);
    if (examined.status === 'fresh') return { status: 'fresh', examined };
    const isRefused = examined.target === 'foreign' && !node.placement?.overwrite;
    if (isRefused && node.placement) throw refusal(targetOf(node.placement, examined.entry.record));
    return { status: 'runs', because: examined.because, entry: examined.entry };
  } catch (error) {
    const failure = failureOf(error, store.folder);
    if (failure === undefined) throw error;
    return failure.kind === 'cancelled' ? { status: 'stopped' } : { status: 'fails', failure };
  }
}

async function scanWaiting(node: GraphNode, role: string, examiner: Examiner): Promise<Scanned> {
  const before = await examiner.previousKey(node);
  if (before === undefined || before.stage !== node.stage.name)
    return { status: 'runs', because: { kind: 'never-built' }, entry: undefined };
  const own = ownChange(ownPart(node), before);
  if (own) return { status: 'runs', because: own, entry: undefined };
  return { status: 'waits', because: { kind: 'input-will-change', input: inputName(node, role) } };
}

/** Files that will be in the way when their nodes have run, told early: better now than after hours of training. */
export async function targetsInTheWay(
  nodes: readonly GraphNode[],
  scanned: ReadonlyMap<NodeId, Scanned>,
  store: Store,
): Promise<readonly string[]> {
  const warnings: string[] = [];
  for (const { id, placement } of nodes) {
    const status = scanned.get(id)?.status;
    if (placement === undefined || placement.overwrite || (status !== 'runs' && status !== 'waits')) continue;
    if (placement.nameFrom !== undefined) continue;
    try {
      if ((await targetState(store, placement.target, undefined)) !== 'foreign') continue;
    } catch (error) {
      // Said when it is placed, if it is still so then.
      if (error instanceof StageFailure) continue;
      throw error;
    }
    const { message, hint } = refusal(placement.target).failure;
    warnings.push(`${message} Unless the result has the same bytes, it will not be replaced. ${hint}`);
  }
  return warnings;
}
