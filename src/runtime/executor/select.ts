// Which nodes a build is about: all of them, or those that its targets need.

import type { Graph, GraphNode } from '../graph/graph.ts';

/** The targets that name neither a block nor a node of the graph. */
export function unknownTargets(graph: Graph, targets: readonly string[]): readonly string[] {
  return targets.filter((target) => !graph.nodes.some((node) => isNamed(node, target)));
}

/** The targets' nodes and everything that they are made from, in the graph's order. Without targets, all. */
export function selectNodes(graph: Graph, targets: readonly string[]): readonly GraphNode[] {
  if (targets.length === 0) return graph.nodes;
  const wanted = new Set<string>();
  for (const node of [...graph.nodes].reverse()) {
    if (!wanted.has(node.id) && !targets.some((target) => isNamed(node, target))) continue;
    wanted.add(node.id);
    for (const input of Object.values(node.inputs)) wanted.add(input.node);
  }
  return graph.nodes.filter((node) => wanted.has(node.id));
}

/** A block's name means its main node and its helpers: `raw` is also `raw:latents`. */
export function isNamed(node: GraphNode, name: string): boolean {
  return node.id === name || node.id.startsWith(`${name}:`);
}
