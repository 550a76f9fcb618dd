// lorac lsp: the language server. Its standard output belongs to the editor; nothing else is written there.

import about from '../../package.json' with { type: 'json' };
import { serve } from '../language-server/server.ts';
import type { CheckedProgram } from '../parser/model.ts';
import type { Graph } from '../runtime/graph/graph.ts';
import { variable } from './compile-file.ts';
import { graphOf, storeOf } from './graph.ts';
import { filesOnDisk } from './imported-files.ts';
import { missingFiles } from './missing-files.ts';
import { placesOfUser } from './places.ts';
import { unfitPatterns } from './unfit-patterns.ts';

export function lsp(): Promise<number> {
  return serve({
    input: process.stdin,
    output: process.stdout,
    version: about.version,
    project: {
      mistakesOf: (program) => [...unfitPatterns(program), ...missingFiles(program, placesOfUser())],
      environment: variable,
      files: filesOnDisk,
      graphOf: remembered(graphOf),
      // What is odd about a store is for builds to say.
      peekingStoreOf: (program) => storeOf(program, () => {}, { mayReadFiles: false }),
    },
  });
}

/** The graph of a program is asked for at every hover, and a program never changes. */
function remembered(graphOf: (program: CheckedProgram) => Graph): (program: CheckedProgram) => Graph {
  const known = new WeakMap<CheckedProgram, Graph>();
  return (program) => {
    const graph = known.get(program) ?? graphOf(program);
    known.set(program, graph);
    return graph;
  };
}
