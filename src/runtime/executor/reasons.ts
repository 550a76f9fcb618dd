// Why a node has to run: the difference between the key it has now and the key it had last time.

import type { FingerprintKey } from '../cache/fingerprint.ts';
import type { StaleReason } from '../events.ts';
import type { GraphNode } from '../graph/graph.ts';
import type { Json } from '../graph/json.ts';

/** The first difference that counts, what the user did before what follows from it. */
export function reasonFor(node: GraphNode, now: FingerprintKey, before: FingerprintKey | undefined): StaleReason {
  if (before === undefined || before.stage !== now.stage) return { kind: 'never-built' };
  return (
    ownChange(now, before) ??
    inputChange(node, now, before) ??
    // Nothing differs but the generation.
    ({ kind: 'asked-for' } as const)
  );
}

/** A difference that is the node's own: its stage's revision, its tools or an attribute. It shows before any input is known. */
export function ownChange(now: Omit<FingerprintKey, 'inputs'>, before: FingerprintKey): StaleReason | undefined {
  if (now.revision !== before.revision) return { kind: 'revision-changed', stage: now.stage };
  const tool = firstDifference('tools', before.tools ?? {}, now.tools ?? {});
  if (tool) return tool;
  const names = new Set([...Object.keys(now.attributes), ...Object.keys(before.attributes)]);
  for (const name of names) {
    const change = firstDifference(name, before.attributes[name], now.attributes[name]);
    if (change) return change;
  }
  return undefined;
}

function inputChange(node: GraphNode, now: FingerprintKey, before: FingerprintKey): StaleReason | undefined {
  const roles = new Set([...Object.keys(now.inputs), ...Object.keys(before.inputs)]);
  for (const role of roles) {
    if (now.inputs[role] !== before.inputs[role]) return { kind: 'input-changed', input: inputName(node, role) };
  }
  return undefined;
}

/**
 * What the user calls an input: the path of a file, the name of a node. With the output where a node gives
 * several: "hero:manifest.captions". What a survey found goes by its role.
 */
export function inputName(node: GraphNode, role: string): string {
  const input = node.inputs[role];
  if (input === undefined) return node.files[role] ?? role;
  const isOneOfSeveral = Object.values(node.inputs).some(
    ({ node: id, output }) => id === input.node && output !== input.output,
  );
  return isOneOfSeveral ? `${input.node}.${input.output}` : input.node;
}

/** Goes into records, so that the reason names `optimizer.eps` and not the whole optimizer. */
function firstDifference(path: string, before: Json | undefined, now: Json | undefined): StaleReason | undefined {
  if (isRecord(before) && isRecord(now)) {
    for (const name of new Set([...Object.keys(now), ...Object.keys(before)])) {
      const change = firstDifference(`${path}.${name}`, before[name], now[name]);
      if (change) return change;
    }
    return undefined;
  }
  const [from, to] = [written(before), written(now)];
  return from === to ? undefined : { kind: 'attribute-changed', attribute: path, from, to };
}

function isRecord(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function written(value: Json | undefined): string {
  if (value === undefined || value === null) return 'nothing';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
