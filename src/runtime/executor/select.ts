// Which nodes a build is about: all of them, or those that its targets need. A name without the values of sweeps, or
// with less than all of them, means all variants that have those: `small`, `small[thr=-3]`.

import { readNodeName } from '../../parser/node-name.ts';
import { keyOfLabel } from '../../parser/sweeps/sweeps.ts';
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

/** Where a block's name means its main node alone: whoever wants `raw:latents` once more says so. */
export function nodesToRerun(graph: Pick<Graph, 'nodes'>, name: string): readonly GraphNode[] {
  const exact = graph.nodes.filter(({ id }) => id === name);
  return exact.length > 0 ? exact : variantsNamed(graph, name);
}

/**
 * The nodes that a name means: a node's own name, or a block's, for all that this block asks for.
 * `raw` is also `raw:samples`, but not `raw:decompose`, which a resize wants.
 */
function namedNodes(graph: Graph, name: string): readonly GraphNode[] {
  return nodesToRerun(graph, name).flatMap((main) =>
    graph.nodes.filter((node) => node === main || (node.id.startsWith(`${main.id}:`) && node.origin === main.origin)),
  );
}

/** The variants of `small`, of `small[thr=-3]`, or of a helper `raw:samples`. Of a dataset, which has helpers alone, these. */
function variantsNamed(graph: Pick<Graph, 'nodes'>, name: string): readonly GraphNode[] {
  const asked = readNodeName(name);
  const wanted = asked.values.map(valueKey);
  const variants = graph.nodes.filter(({ id }) => {
    const { block, values } = readNodeName(id);
    const own = values.map(valueKey);
    return block === asked.block && wanted.every((value) => own.includes(value));
  });
  const mains = variants.filter(({ id }) => readNodeName(id).helper === asked.helper);
  return mains.length === 0 && asked.helper === undefined ? variants : mains;
}

/** The same however a number and the blanks are written. */
function valueKey(value: string): string {
  const [sweep = '', ...label] = value.split('=');
  return `${sweep.trim()}=${keyOfLabel(label.join('=').trim())}`;
}
