// Which nodes a build is about: all of them, or those that its targets need.

import type { Graph, GraphNode } from '../graph/graph.ts';

/** The targets that name neither a block nor a node of the graph. */
export function unknownTargets(graph: Graph, targets: readonly string[]): readonly string[] {
  return targets.filter((target) => namedNodes(graph, target).length === 0);
}

/** The targets' nodes and everything that they are made from, in the graph's order. Without targets, all. */
export function selectNodes(graph: Graph, targets: readonly string[]): readonly GraphNode[] {
  if (targets.length === 0) return graph.nodes;
  const wanted = new Set<string>(targets.flatMap((target) => namedNodes(graph, target)).map(({ id }) => id));
  for (const node of [...graph.nodes].reverse()) {
    if (wanted.has(node.id)) for (const input of Object.values(node.inputs)) wanted.add(input.node);
  }
  return graph.nodes.filter((node) => wanted.has(node.id));
}

/**
 * The nodes that a name means: a node's own name, or a block's, for all that this block asks for.
 * `raw` is also `raw:samples`, but not `raw:decompose`, which a resize wants.
 */
function namedNodes(graph: Graph, name: string): readonly GraphNode[] {
  const main = graph.nodes.find((node) => node.id === name);
  return graph.nodes.filter(
    (node) => node === main || (node.id.startsWith(`${name}:`) && (main === undefined || node.origin === main.origin)),
  );
}
