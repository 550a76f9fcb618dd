// How a program stands, as far as that is known already. For an editor, which asks after every pause in typing while a
// build may be running beside it. So it:
// - reads no file of the user's: one that has changed since it was last read makes its node "fails" with "not-read";
// - runs no stage, writes nothing, and takes no lock.

import { resolve } from 'node:path';
import type { Entry, Store } from '../cache/store.ts';
import type { AbsolutePath, Graph, NodeId } from '../graph/graph.ts';
import { Examiner, wantedOutputs } from './examine.ts';
import { type Scanned, scan } from './scan.ts';

export interface NodePeek {
  readonly scanned: Scanned;
  /** What it gave at the last build, which may be for other settings. */
  readonly last: Entry | undefined;
}

/** `store`: one that may not read files. */
export async function peek(
  { program, nodes }: Graph,
  { store, signal }: { readonly store: Store; readonly signal: AbortSignal },
): Promise<ReadonlyMap<NodeId, NodePeek>> {
  if (store.files.mayRead) throw new Error('Internal error: a peek with a store that reads files.');
  const examiner = new Examiner({
    store,
    wanted: wantedOutputs(nodes),
    program: store.nameOf(resolve(program) as AbsolutePath),
    rerun: new Set(),
    signal,
    say: () => {},
  });
  const scanned = await scan(nodes, { examiner, store });
  const peeks = new Map<NodeId, NodePeek>();
  for (const node of nodes) {
    peeks.set(node.id, { scanned: scanned.get(node.id) as Scanned, last: await examiner.previousEntry(node) });
  }
  return peeks;
}
