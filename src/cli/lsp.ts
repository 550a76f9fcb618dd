// lorac lsp: the language server. Its standard output belongs to the editor; nothing else is written there.

import about from '../../package.json' with { type: 'json' };
import { serve } from '../language-server/server.ts';
import { variable } from './compile-file.ts';
import { graphOf, storeOf } from './graph.ts';
import { filesOnDisk } from './imported-files.ts';
import { missingFiles } from './missing-files.ts';
import { placesOfUser } from './places.ts';

export function lsp(): Promise<number> {
  return serve({
    input: process.stdin,
    output: process.stdout,
    version: about.version,
    project: {
      missingFiles: (program) => missingFiles(program, placesOfUser()),
      environment: variable,
      files: filesOnDisk,
      graphOf,
      // What is odd about a store is for builds to say.
      peekingStoreOf: (program) => storeOf(program, () => {}, { mayReadFiles: false }),
    },
  });
}
