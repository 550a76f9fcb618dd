// lorac build: text → checked program → graph → events → screen.

import { runBuild } from '../runtime/executor/build.ts';
import { selectNodes } from '../runtime/executor/select.ts';
import { chooseReporter, openReporter, type ReporterKind } from '../tui/reporter.ts';
import { wantsColor } from './color.ts';
import { compileOrExplain, explain } from './compile-file.ts';
import { graphOf, requireNames, storeOf } from './graph.ts';
import { missingFiles } from './missing-files.ts';
import { placesOf } from './places.ts';
import { type PlanOptions, plan } from './plan.ts';
import { splitArguments } from './program-file.ts';
import { workerStarter } from './start-worker.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';

export interface BuildOptions extends Omit<PlanOptions, 'format'> {
  readonly reporter?: ReporterKind;
  readonly dryRun?: boolean;
}

export async function build(options: BuildOptions): Promise<number> {
  const { reporter: kind = chooseReporter(process.stdout, process.env), rerun } = options;
  if (options.dryRun) return plan({ ...options, format: kind === 'json' ? 'json' : 'text' });

  const { file, targets } = splitArguments(options.file, options.targets);
  const program = compileOrExplain({ ...options, file });
  if (program === undefined) return 2;
  const graph = graphOf(program);
  requireNames(graph, targets, rerun);
  // A file that is not there is told now, with all others, and not after an hour of work on what does not need it.
  const wanted = new Set(selectNodes(graph, targets).map(({ origin }) => origin));
  const asked = { ...program, blocks: program.blocks.filter(({ span }) => wanted.has(span)) };
  const missing = missingFiles(asked, placesOf(program.source));
  explain(missing);
  if (missing.length > 0) return 2;

  using stop = listenForStop();
  // Nobody reads on, as after `| head`: the same as a Ctrl-C.
  process.stdout.once('error', stop.request);
  const reporter = await openReporter(kind, {
    stdout: process.stdout,
    color: wantsColor(process.stdout),
    folder: process.cwd(),
    now: () => performance.now(),
  });
  try {
    const { ok, interrupted } = await runBuild({
      graph,
      store: storeOf(program, (message) => reporter.listen({ type: 'message', level: 'warning', message })),
      targets,
      rerun,
      signal: stop.signal,
      listener: reporter.listen,
      startWorker: workerStarter(reporter.listen, stop.signal),
    });
    if (interrupted) return INTERRUPTED;
    return ok ? 0 : 1;
  } finally {
    await reporter.close();
  }
}
