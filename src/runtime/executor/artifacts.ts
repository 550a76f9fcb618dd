// What a node reads, by role: the user's files where they lie, other nodes' outputs in the store.

import type { FingerprintKey } from '../cache/fingerprint.ts';
import type { Store } from '../cache/store.ts';
import type { GraphNode } from '../graph/graph.ts';
import type { Artifact } from '../stage.ts';
import type { Entries } from './examine.ts';

/** `key`: of the result that is made of them. */
export function artifactsOf(
  store: Store,
  node: GraphNode,
  key: FingerprintKey,
  entries: Entries,
): { readonly [role: string]: Artifact } {
  const found: { [role: string]: Artifact } = {};
  for (const [role, path] of Object.entries(node.files)) {
    const digest = key.inputs[role];
    const seen = store.files.look(path);
    if (digest !== undefined && seen) found[role] = { digest, sizeBytes: seen.sizeBytes, path };
  }
  for (const [role, { node: from, output }] of Object.entries(node.inputs)) {
    const artifact = entries.get(from)?.outputs[output];
    if (artifact) found[role] = artifact;
  }
  return found;
}
