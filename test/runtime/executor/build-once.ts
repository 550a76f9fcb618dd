// Run as a program of its own: builds the lab's project in the folder that is named, with a training that takes a
// while, and prints what it computed and what it found.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { compile } from '../../../src/parser/check.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import { runBuild } from '../../../src/runtime/executor/build.ts';
import { buildGraph } from '../../../src/runtime/graph/build.ts';
import { absolutePath, pathIn } from '../../../src/runtime/graph/paths.ts';
import type { Stage } from '../../../src/runtime/stage.ts';
import { labStages } from '../../helpers/lab-stages.ts';

const folder = absolutePath(process.argv[2] as string);
const path = pathIn(folder, 'main.lora');
const { program } = compile({ path, text: readFileSync(path, 'utf8') }, { params: new Map() });
if (program === undefined) throw new Error('The program is wrong.');

const train: Stage = {
  ...labStages.train,
  async run(context) {
    await sleep(400);
    return labStages.train.run(context);
  },
};
const messages: string[] = [];
const { ok, computed, fresh } = await runBuild({
  graph: buildGraph(program, { home: folder, stages: { ...labStages, train } }),
  store: new Store(pathIn(folder, '.lorac')),
  listener: (event) => {
    if (event.type === 'message') messages.push(event.message);
  },
});
process.stdout.write(JSON.stringify({ pid: process.pid, ok, computed, fresh, messages }));
