// Which nodes a change of a setting runs again. Nobody wrote that down: the graph is built once more with another value
// in that place, and what differs then, and all that is made from it, is the answer.

import { typesIn } from '../parser/editing/symbols.ts';
import type { Reference as BlockReference, CheckedBlock, CheckedProgram, ProgramPath } from '../parser/model.ts';
import { type Fields, type Type, variantOf } from '../parser/schema/types.ts';
import type { Graph, GraphNode, NodeId } from '../runtime/graph/graph.ts';

type GraphOf = (program: CheckedProgram) => Graph;

/**
 * The nodes in the order of the graph; `undefined` where the graph has no answer. `blocks`: the block as it is written,
 * which is several where a sweep makes variants of it.
 */
export function rerunBy(
  program: CheckedProgram,
  {
    blocks,
    path,
    type,
  }: { readonly blocks: readonly CheckedBlock[]; readonly path: readonly string[]; readonly type: Type },
  graphOf: GraphOf,
): readonly NodeId[] | undefined {
  const changed = withAnother(program, blocks, path, type);
  if (changed === undefined) return undefined;
  try {
    return difference(graphOf(program), graphOf(changed));
  } catch {
    // Another value alone can make a program that no checker lets through, such as one that keeps and drops blocks.
    return undefined;
  }
}

function difference(before: Graph, after: Graph): readonly NodeId[] {
  const others = new Map(after.nodes.map((node) => [node.id, identity(node)]));
  const rerun = new Set<NodeId>();
  for (const node of before.nodes) {
    const isFed = Object.values(node.inputs).some((input) => rerun.has(input.node));
    if (isFed || others.get(node.id) !== identity(node)) rerun.add(node.id);
  }
  const known = new Set(before.nodes.map(({ id }) => id));
  return [...rerun, ...after.nodes.map(({ id }) => id).filter((id) => !known.has(id) && !isStandIn(id))];
}

/** What is the node's own in its fingerprint. What a survey finds depends on its settings too. */
function identity({ stage, attributes, files, inputs, settings }: GraphNode): string {
  return JSON.stringify([stage.name, attributes, files, inputs, stage.survey === undefined ? null : settings]);
}

/** The same program with another value in one place. */
function withAnother(
  program: CheckedProgram,
  blocks: readonly CheckedBlock[],
  path: readonly string[],
  type: Type,
): CheckedProgram | undefined {
  const standIns = new Map<string, CheckedBlock>();
  const another = (of: BlockReference): BlockReference => {
    const meant = program.blocks.find(({ name }) => name === of.block);
    const name = `${of.block}${STAND_IN}`;
    if (meant !== undefined) standIns.set(name, { ...meant, name });
    return { ...of, block: name };
  };
  const changed = new Map<CheckedBlock, CheckedBlock>();
  for (const block of blocks) {
    const attributes = replaceAt(block.attributes, path, (value) => anotherValue(type, value, another));
    if (attributes === undefined) return undefined;
    changed.set(block, { ...block, attributes } as CheckedBlock);
  }
  return { ...program, blocks: [...program.blocks.map((one) => changed.get(one) ?? one), ...standIns.values()] };
}

const STAND_IN = ' (another)';
const isStandIn = (id: string) => id.includes(STAND_IN);

function replaceAt(
  record: unknown,
  [name, ...rest]: readonly string[],
  change: (value: unknown) => unknown,
): object | undefined {
  if (typeof record !== 'object' || record === null || name === undefined) return undefined;
  const value = (record as { readonly [name: string]: unknown })[name];
  const changed = rest.length === 0 ? change(value) : replaceAt(value, rest, change);
  return changed === undefined ? undefined : { ...record, [name]: changed };
}

/** A value of the same type that is not this one. `undefined` where there is none. */
function anotherValue(type: Type, value: unknown, another: (of: BlockReference) => BlockReference): unknown {
  switch (type.kind) {
    case 'number':
    case 'steps-or-share':
      return typeof value === 'number' ? value + 1 : 1;
    case 'text':
      return anotherText(type.what, value);
    case 'boolean':
      return value !== true;
    case 'size': {
      const { width, height } = value as { readonly width: number; readonly height: number };
      return { width: height + 64, height: width };
    }
    case 'duration':
      return { seconds: ((value as { readonly seconds?: number } | undefined)?.seconds ?? 0) + 60 };
    case 'steps':
      return { steps: ((value as { readonly steps?: number } | undefined)?.steps ?? 0) + 1 };
    case 'words':
      return type.words.find((word) => word !== value);
    case 'reference':
      return value === undefined ? undefined : another(value as BlockReference);
    case 'weighted-references':
    case 'list':
      return anotherList(type, value as readonly unknown[], another);
    case 'either':
      return type.of
        .filter((one) => (one.kind === 'list') === Array.isArray(value))
        .map((one) => anotherValue(one, value, another))
        .find((one) => one !== undefined);
    case 'record':
      return anotherRecord(type.fields, value, another);
    case 'tagged': {
      const tag = Object.keys(type.variants).find((one) => one !== (value as { readonly kind: string }).kind);
      return tag === undefined ? undefined : variantOf(type, tag);
    }
    case 'network-block':
      return value === 'IN00' ? 'IN01' : 'IN00';
    case 'block-numbers':
      return { ...(value as object | undefined), OUT08: 7 };
    case 'arguments':
      return { ...(value as object | undefined), another: 1 };
    case 'named':
      return anotherNamed(type.of, value as object | undefined, another);
    case 'schedule':
      return value === 'step' ? 1 : 'step';
  }
}

/** The same names, and another value for the first. */
function anotherNamed(
  of: Type,
  value: object | undefined,
  another: (of: BlockReference) => BlockReference,
): object | undefined {
  const [[name, first] = ['another', undefined]] = Object.entries(value ?? {});
  const isReference = typeof first === 'object' && first !== null && 'block' in first;
  const form = typesIn(of).find(({ kind }) => (kind === 'reference') === isReference);
  const item = form && anotherValue(form, first, another);
  return item === undefined ? undefined : { ...value, [name]: item };
}

function anotherText(what: Extract<Type, { kind: 'text' }>['what'], value: unknown): unknown {
  if (what === 'text') return `${typeof value === 'string' ? value : ''}x`;
  // Another mask, or another colour, has a form of its own.
  if (what !== 'path' || typeof value !== 'object' || value === null) return undefined;
  const path = value as ProgramPath;
  return { ...path, text: `${path.text}x` };
}

function anotherList(
  type: Type,
  value: readonly unknown[] | undefined,
  another: (of: BlockReference) => BlockReference,
) {
  const [first, ...rest] = value ?? [];
  if (type.kind === 'weighted-references')
    return first === undefined ? undefined : [another(first as BlockReference), ...rest];
  if (type.kind !== 'list') return undefined;
  const item = anotherValue(type.of, first, another);
  return item === undefined ? undefined : [item, ...rest];
}

function anotherRecord(fields: Fields, value: unknown, another: (of: BlockReference) => BlockReference): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  const record = value as { readonly [name: string]: unknown };
  for (const [name, { type, fingerprint }] of Object.entries(fields)) {
    const changed = fingerprint ? anotherValue(type, record[name], another) : undefined;
    if (changed !== undefined) return { ...record, [name]: changed };
  }
  return undefined;
}
