// A project folder and everything to build it with, for tests of what runs and why.
//
// The program is a real `.lora` file; parser, graph, store and executor are the real ones. The stages are small native
// ones that write text, so that a build takes milliseconds; their texts hold all that they were made from.
// Nodes are started in a shuffled order; a failing test prints the seed, and LORAC_TEST_SEED brings the order back.

import { readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { onTestFailed } from 'vitest';
import { filesOnDisk } from '../../src/cli/imported-files.ts';
import { compile } from '../../src/parser/check.ts';
import { Store } from '../../src/runtime/cache/store.ts';
import type { Failure, RunEvent, StaleReason } from '../../src/runtime/events.ts';
import { type BuildOptions, type Finished, type Plan, planBuild, runBuild } from '../../src/runtime/executor/build.ts';
import { buildGraph, type Stages } from '../../src/runtime/graph/build.ts';
import type { AbsolutePath, Graph } from '../../src/runtime/graph/graph.ts';
import type { WorkerClient } from '../../src/runtime/worker/client.ts';
import { labStages } from './lab-stages.ts';
import { settle } from './settle.ts';
import { shuffled } from './shuffled.ts';
import { type TemporaryFolder, temporaryFolder } from './temporary-folder.ts';

export interface LabRun {
  readonly finished: Finished;
  readonly events: readonly RunEvent[];
  /** By node: what became of it. */
  readonly statuses: { readonly [node: string]: 'fresh' | 'computed' | 'failed' | 'skipped' | 'stopped' };
  /** By node: why it ran. */
  readonly reasons: { readonly [node: string]: StaleReason };
  readonly failures: { readonly [node: string]: Failure };
  readonly messages: readonly string[];
}

type RunOptions = Partial<Pick<BuildOptions, 'targets' | 'rerun' | 'signal' | 'concurrency' | 'startWorker'>> & {
  readonly onEvent?: (event: RunEvent) => void;
  readonly program?: string;
};

export interface Lab extends Disposable {
  readonly folder: AbsolutePath;
  at(name: string): AbsolutePath;
  write(files: { readonly [name: string]: string | Uint8Array }): void;
  edit(name: string, change: (text: string) => string): void;
  remove(name: string): void;
  /** Sets a file's time to now, as `touch` does. */
  touch(name: string): void;
  read(name: string): string;
  readonly store: () => Store;
  graph(program?: string): Graph;
  run(options?: RunOptions): Promise<LabRun>;
  plan(options?: Pick<RunOptions, 'targets' | 'rerun' | 'program'>): Promise<Plan>;
}

/** A folder with these files, settled; the program is `main.lora`. Stages can be replaced by ones of the test. */
export async function openLab(
  files: { readonly [name: string]: string | Uint8Array },
  options: { readonly stages?: Partial<Stages>; readonly folder?: TemporaryFolder; readonly store?: AbsolutePath } = {},
): Promise<Lab> {
  const folder = options.folder ?? temporaryFolder();
  const seed = Number(process.env.LORAC_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  onTestFailed(() => console.error(`The nodes were started in the order of LORAC_TEST_SEED=${seed}.`));
  const stages: Stages = { ...labStages, ...options.stages };
  folder.write(files);
  await settle();

  const store = (warn: (message: string) => void = () => {}) =>
    new Store(options.store ?? folder.at('.lorac'), { warn });

  const graph = (program = 'main.lora') => {
    const text = readFileSync(folder.at(program), 'utf8');
    const source = { path: folder.at(program), text };
    const { program: checked, diagnostics } = compile(source, { params: new Map(), files: filesOnDisk() });
    if (checked === undefined) throw new Error(diagnostics.map(({ message }) => message).join('\n'));
    return buildGraph(checked, { home: folder.at('home'), stages });
  };

  let runs = 0;
  return {
    folder: folder.path,
    at: folder.at,
    write: folder.write,
    edit: (name, change) => folder.write({ [name]: change(readFileSync(folder.at(name), 'utf8')) }),
    remove: (name) => rmSync(folder.at(name), { recursive: true }),
    touch: (name) => utimesSync(folder.at(name), new Date(), new Date()),
    read: (name) => readFileSync(folder.at(name), 'utf8'),
    store,
    graph,
    async run({ onEvent, program, ...rest } = {}) {
      const events: RunEvent[] = [];
      const listener = (event: RunEvent) => {
        events.push(event);
        onEvent?.(event);
      };
      const warn = (message: string) => listener({ type: 'message', level: 'warning', message });
      runs += 1;
      const order: BuildOptions['order'] = (nodes) => shuffled(nodes, seed + runs);
      await runBuild({ graph: graph(program), store: store(warn), listener, order, ...rest });
      return summaryOf(events);
    },
    async plan({ program, ...rest } = {}) {
      return planBuild({ graph: graph(program), store: store(), ...rest });
    },
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

function summaryOf(events: readonly RunEvent[]): LabRun {
  const statuses: { [node: string]: LabRun['statuses'][string] } = {};
  const reasons: { [node: string]: StaleReason } = {};
  const failures: { [node: string]: Failure } = {};
  const messages: string[] = [];
  for (const event of events) {
    if (event.type === 'node-fresh') statuses[event.node] = 'fresh';
    if (event.type === 'node-started') reasons[event.node] = event.because;
    if (event.type === 'node-computed') statuses[event.node] = 'computed';
    if (event.type === 'node-skipped') statuses[event.node] = 'skipped';
    if (event.type === 'message') messages.push(event.message);
    if (event.type === 'node-failed') {
      failures[event.node] = event.failure;
      statuses[event.node] = event.failure.kind === 'cancelled' ? 'stopped' : 'failed';
    }
  }
  const finished = events.at(-1);
  if (finished?.type !== 'finished') throw new Error('The run did not end with "finished".');
  return { finished, events, statuses, reasons, failures, messages };
}

/** The bytes of a node's output, as the store has them. */
export async function outputOf(lab: Lab, node: string, output: string): Promise<string> {
  const store = lab.store();
  const fingerprint = store.history.get(`main.lora#${node}`);
  const entry = await store.lookupEntry(fingerprint as never);
  const artifact = entry?.outputs[output];
  if (artifact === undefined) throw new Error(`"${node}" has no "${output}".`);
  return readFile(artifact.path, 'utf8');
}

/** When a file was last changed. */
export function changedAt(path: AbsolutePath): bigint {
  return statSync(path, { bigint: true }).ctimeNs;
}

/** Stands in for a worker where none must be needed. */
export function noWorker(): Promise<WorkerClient> {
  throw new Error('No stage was to need a worker.');
}
