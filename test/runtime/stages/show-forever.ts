// Run as a program of its own: lays out the results of two programs in turns, over and over, until it is killed. Both are
// built already. Prints a dot for each time.

import { readFileSync } from 'node:fs';
import { filesOnDisk } from '../../../src/cli/imported-files.ts';
import { compile } from '../../../src/parser/check.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import { runBuild } from '../../../src/runtime/executor/build.ts';
import { buildGraph } from '../../../src/runtime/graph/build.ts';
import { absolutePath, pathIn } from '../../../src/runtime/graph/paths.ts';
import { stages } from '../../../src/runtime/stages/index.ts';

const folder = absolutePath(process.argv[2] as string);
const graphs = process.argv.slice(3).map((name) => {
  const path = pathIn(folder, name);
  const { program } = compile({ path, text: readFileSync(path, 'utf8') }, { params: new Map(), files: filesOnDisk() });
  if (program === undefined) throw new Error('The program is wrong.');
  return buildGraph(program, { home: folder, stages });
});
for (;;) {
  for (const graph of graphs) {
    const { computed } = await runBuild({ graph, store: new Store(pathIn(folder, '.lorac')), listener: () => {} });
    if (computed.length > 0) throw new Error(`Something was left to do: ${computed.join(', ')}`);
    process.stdout.write('.');
  }
}
