// From a checked program to its graph and the store of its results.

import { statSync } from 'node:fs';
import { nearest } from '../parser/diagnostics/suggest.ts';
import type { CheckedProgram } from '../parser/model.ts';
import { readNodeName, writeNodeName } from '../parser/node-name.ts';
import { Store, type StoreOptions } from '../runtime/cache/store.ts';
import { nodesToRerun, unknownTargets } from '../runtime/executor/select.ts';
import { buildGraph } from '../runtime/graph/build.ts';
import type { Graph } from '../runtime/graph/graph.ts';
import { folderOf, pathIn } from '../runtime/graph/paths.ts';
import { stages } from '../runtime/stages/index.ts';
import { placesOfUser } from './places.ts';
import { UsageError } from './usage-error.ts';
import { namedStoreFolder } from './user-store.ts';

export function graphOf(program: CheckedProgram): Graph {
  return buildGraph(program, { ...placesOfUser(), stages });
}

/** Beside the program, or where LORAC_STORE says. */
export function storeOf(
  program: CheckedProgram,
  warn: (message: string) => void,
  options: Omit<StoreOptions, 'warn'> = {},
): Store {
  return new Store(namedStoreFolder() ?? pathIn(folderOf(program.source), '.lorac'), { ...options, warn });
}

/** `--rerun` means one node, or its variants; a target may also be a block, with all its helpers. */
export function requireNames(graph: Graph, targets: readonly string[], rerun: readonly string[]): void {
  const [target] = unknownTargets(graph, targets);
  if (target !== undefined) throw new UsageError(`There is no block or node "${target}".`, hintOn(target, graph));
  const unknown = rerun.find((name) => nodesToRerun(graph, name).length === 0);
  if (unknown !== undefined) {
    throw new UsageError(`--rerun names "${unknown}", and there is no such node.`, hintOn(unknown, graph));
  }
}

const VARIANTS_SHOWN = 6;

function hintOn(name: string, { nodes }: Graph): string {
  const found = statSync(name, { throwIfNoEntry: false });
  if (found?.isFile()) return 'there is a file of that name, and programs end in .lora';
  if (found?.isDirectory()) return `there is a folder of that name; as a program it is written ./${name}`;
  const asked = readNodeName(name);
  const variants = nodes.map(({ id }) => id).filter((id) => isVariantOf(asked.block, id));
  if (asked.values.length > 0 && variants.length > 0) {
    const shown = variants.slice(0, VARIANTS_SHOWN).join(', ');
    return `the variants of ${asked.block} are ${shown}${variants.length > VARIANTS_SHOWN ? ' …' : ''}`;
  }
  // All variants of a block in one word, which means them all.
  const names = [...new Set(nodes.map(({ id }) => writeNodeName({ ...readNodeName(id), values: [] })))];
  const meant = nearest(name, names);
  return `${meant === undefined ? '' : `perhaps ${meant}; `}there is ${names.join(', ')}`;
}

function isVariantOf(block: string, id: string): boolean {
  const { block: own, values, helper } = readNodeName(id);
  return own === block && values.length > 0 && helper === undefined;
}
