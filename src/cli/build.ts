// lorac build: text → checked program → graph → events → screen.

import { selectNodes } from '../runtime/executor/select.ts';
import { chooseReporter, type ReporterKind } from '../tui/reporter.ts';
import { compileOrExplain, explain } from './compile-file.ts';
import { graphOf, requireNames, storeOf } from './graph.ts';
import { missingFiles } from './missing-files.ts';
import { placesOfUser } from './places.ts';
import { type PlanOptions, plan } from './plan.ts';
import { splitArguments } from './program-file.ts';
import { runGraph } from './run-graph.ts';
import { unfitPatterns } from './unfit-patterns.ts';

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
  // A file that is not there, or a layer, is told now, with all others, and not after an hour of work on what does not need it.
  const wanted = new Set(selectNodes(graph, targets).map(({ origin }) => origin));
  const asked = { ...program, blocks: program.blocks.filter(({ span }) => wanted.has(span)) };
  const wrong = [...unfitPatterns(asked), ...missingFiles(asked, placesOfUser())];
  explain(wrong);
  if (wrong.length > 0) return 2;

  return runGraph({
    graph,
    openStore: (warn) => storeOf(program, warn),
    reporter: kind,
    targets,
    rerun,
    advise: async (stale, store, signal) => {
      const { adviceOn } = await import('./lint-advice.ts');
      return adviceOn(program, stale, store, signal);
    },
  });
}
