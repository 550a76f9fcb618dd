// Runs a graph for a command: a reporter tells what happens, and a signal, or a reader that goes away, stops it.

import type { Store } from '../runtime/cache/store.ts';
import type { Listener } from '../runtime/events.ts';
import { runBuild } from '../runtime/executor/build.ts';
import type { Graph, NodeId } from '../runtime/graph/graph.ts';
import { chooseReporter, openReporter, type ReporterKind } from '../tui/reporter.ts';
import { wantsColor } from './color.ts';
import { workerStarter } from './start-worker.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';

export interface GraphRun {
  readonly graph: Graph;
  /** Where results are kept. What is odd about the place goes to `warn`. */
  openStore(warn: (message: string) => void): Store;
  /** Where it is told. Default: stdout. */
  readonly stream?: NodeJS.WriteStream;
  /** Default: what fits the terminal, or its absence. */
  readonly reporter?: ReporterKind | undefined;
  /** Names of blocks or nodes; none: everything. */
  readonly targets?: readonly string[];
  readonly rerun?: readonly string[];
  /** What is worth saying before any work begins, given the nodes that are not fresh. */
  advise?(stale: ReadonlySet<NodeId>, store: Store, signal: AbortSignal): Promise<readonly string[]>;
  /** Hears every event before the reporter does. */
  readonly listener?: Listener;
}

/** Gives the exit code: 0 done, 1 a stage failed, 130 interrupted. */
export async function runGraph(run: GraphRun): Promise<number> {
  const { graph, openStore, stream = process.stdout, reporter: kind, targets = [], rerun = [], listener } = run;
  using stop = listenForStop();
  // Nobody reads on, as after `| head`: the same as a Ctrl-C.
  process.stdout.once('error', stop.request);
  const reporter = await openReporter(kind ?? chooseReporter(stream, process.env), {
    stdout: stream,
    color: wantsColor(stream),
    folder: process.cwd(),
    now: () => performance.now(),
  });
  const listen: Listener = (event) => {
    listener?.(event);
    reporter.listen(event);
  };
  const store = openStore((message) => listen({ type: 'message', level: 'warning', message }));
  const { advise } = run;
  try {
    const { ok, interrupted } = await runBuild({
      graph,
      store,
      ...(advise && { advise: (stale: ReadonlySet<NodeId>) => advise(stale, store, stop.signal) }),
      targets,
      rerun,
      signal: stop.signal,
      listener: listen,
      startWorker: workerStarter(listen, stop.signal),
    });
    if (interrupted) return INTERRUPTED;
    return ok ? 0 : 1;
  } finally {
    await reporter.close();
  }
}
