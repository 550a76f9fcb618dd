// Trainings that differ in a rate alone take the same latents: helpers of variants that do the same work are one node.
// It is called by the values that all of these variants have: `raw:latents` where a sweep makes no difference to them.

import { type NodeName, readNodeName, writeNodeName } from '../../parser/node-name.ts';
import type { GraphNode, NodeId, NodeInput } from './graph.ts';

/** `nodes`: each after those that it is made from, and so they stay. */
export function shareHelpers(nodes: readonly GraphNode[]): readonly GraphNode[] {
  const groups = new Map<string, { readonly node: GraphNode; readonly names: NodeId[] }>();
  const groupOf = new Map<NodeId, NodeId>();
  for (const written of nodes) {
    const node = { ...written, inputs: renameInputs(written.inputs, groupOf) };
    const key = keyOf(node);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { node, names: [node.id] });
    else {
      group.names.push(node.id);
      groupOf.set(node.id, group.node.id);
    }
  }
  const taken = new Set<string>(nodes.map(({ id }) => id));
  const names = new Map<NodeId, NodeId>();
  for (const { node, names: members } of groups.values()) {
    const common = commonName(members);
    if (members.length === 1 || taken.has(common)) continue;
    taken.add(common);
    names.set(node.id, common as NodeId);
  }
  return [...groups.values()].map(({ node }) => ({
    ...node,
    id: names.get(node.id) ?? node.id,
    inputs: renameInputs(node.inputs, names),
  }));
}

/** Equal for helpers of one block that do the same work; of its own for every other node. */
function keyOf({ id, stage, attributes, settings, files, inputs }: GraphNode): string {
  const { block, values, helper } = readNodeName(id);
  if (values.length === 0 || helper === undefined) return id;
  return JSON.stringify([block, helper, stage.name, attributes, settings, files, inputs]);
}

function commonName(ids: readonly NodeId[]): string {
  const [first, ...others] = ids.map(readNodeName) as [NodeName, ...NodeName[]];
  const values = first.values.filter((value) => others.every((other) => other.values.includes(value)));
  return writeNodeName({ ...first, values });
}

function renameInputs(inputs: GraphNode['inputs'], names: ReadonlyMap<NodeId, NodeId>): GraphNode['inputs'] {
  if (!Object.values(inputs).some(({ node }) => names.has(node))) return inputs;
  const renamed = Object.entries(inputs).map(([role, input]): [string, NodeInput] => [
    role,
    { ...input, node: names.get(input.node) ?? input.node },
  ]);
  return Object.fromEntries(renamed);
}
