// From a checked program to its graph and the store of its results.

import { resolve } from 'node:path';
import type { CheckedProgram } from '../parser/model.ts';
import { Store } from '../runtime/cache/store.ts';
import { unknownTargets } from '../runtime/executor/select.ts';
import { buildGraph } from '../runtime/graph/build.ts';
import type { Graph } from '../runtime/graph/graph.ts';
import { absolutePath, pathIn } from '../runtime/graph/paths.ts';
import { stages } from '../runtime/stages/index.ts';
import { placesOf } from './places.ts';
import { UsageError } from './usage-error.ts';

export function graphOf(program: CheckedProgram): Graph {
  return buildGraph(program, { ...placesOf(program.source), stages });
}

/** Beside the program, or where LORAC_STORE says. */
export function storeOf(program: CheckedProgram, warn: (message: string) => void): Store {
  const named = process.env.LORAC_STORE;
  const folder =
    named === undefined || named === ''
      ? pathIn(placesOf(program.source).folder, '.lorac')
      : absolutePath(resolve(named));
  return new Store(folder, { warn });
}

/** `--rerun` means one node; a target may also be a block, with all its helpers. */
export function requireNames(graph: Graph, targets: readonly string[], rerun: readonly string[]): void {
  const names = graph.nodes.map(({ id }) => id);
  const [target] = unknownTargets(graph, targets);
  if (target !== undefined)
    throw new UsageError(`There is no block or node "${target}".`, `there is ${names.join(', ')}`);
  const unknown = rerun.find((name) => !names.some((id) => id === name));
  if (unknown !== undefined)
    throw new UsageError(`--rerun names "${unknown}", and there is no such node.`, `there is ${names.join(', ')}`);
}
