// lorac lint: what is odd about the images and captions of datasets, before hours are spent on them.
// Without --fast the worker looks at pixels that were never looked at; everything else is read from headers.

import { jsonLine } from '../parser/clean-text.ts';
import { nearest } from '../parser/diagnostics/suggest.ts';
import type { BlockOf, CheckedProgram } from '../parser/model.ts';
import { findingKinds } from '../runtime/dataset/lint/findings.ts';
import type { LintReport } from '../runtime/dataset/lint/lint.ts';
import { StageFailure } from '../runtime/events.ts';
import { wantsColor } from './color.ts';
import { compileOrExplain, type ProgramOptions } from './compile-file.ts';
import { storeOf } from './graph.ts';
import { lintBlock, looksIn } from './lint-dataset.ts';
import { lintLines } from './lint-text.ts';
import { closerLooker } from './look-closer.ts';
import { splitArguments } from './program-file.ts';
import { openProgressLine } from './progress-line.ts';
import { workerStarter } from './start-worker.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';
import { tellFailure, tellWarning } from './tell-failure.ts';
import { UsageError } from './usage-error.ts';

export interface LintCommand extends ProgramOptions {
  readonly datasets: readonly string[];
  readonly fast?: boolean;
  readonly json?: boolean;
}

/** Gives the exit code: 0 with warnings at most, 1 where a build would be refused. */
export async function lint(options: LintCommand): Promise<number> {
  const { file, targets } = splitArguments(options.file, options.datasets);
  const program = compileOrExplain({ ...options, file });
  if (program === undefined) return 2;
  const blocks = chosen(program, targets);
  const store = storeOf(program, tellWarning);
  const looks = looksIn(store);
  using stop = listenForStop();
  using line = openProgressLine();
  const { signal } = stop;
  const closer = closerLooker({
    store,
    looks,
    signal,
    startWorker: workerStarter((event) => event.type === 'worker' && line.show(event.message), signal),
    onLooked: (done, total) => line.show(`${done} of ${total} images looked at`),
  });
  const reports: LintReport[] = [];
  try {
    for (const block of blocks) {
      const lookCloser = options.fast ? undefined : closer.look;
      const say = (message: string) => line.show(message);
      reports.push(await lintBlock(block, { program, store, looks, signal, say, ...(lookCloser && { lookCloser }) }));
    }
  } catch (error) {
    line.clear();
    if (signal.aborted) return INTERRUPTED;
    if (!(error instanceof StageFailure)) throw error;
    tellFailure(error.failure);
    return 1;
  } finally {
    await closer.close();
    await store.save();
  }
  line.clear();
  tell(reports, options.json === true);
  return reports.some(({ findings }) => findings.some(({ severity }) => severity === 'error')) ? 1 : 0;
}

function chosen(program: CheckedProgram, names: readonly string[]): readonly BlockOf<'dataset'>[] {
  const all = program.blocks.filter((block) => block.kind === 'dataset');
  const unknown = names.find((name) => !all.some((block) => isCalled(block, name)));
  if (unknown !== undefined) {
    const known = all.map(({ name }) => name);
    const meant = nearest(unknown, known);
    throw new UsageError(
      `There is no dataset "${unknown}".`,
      known.length === 0 ? undefined : `${meant === undefined ? '' : `perhaps ${meant}; `}there is ${known.join(', ')}`,
    );
  }
  if (all.length === 0)
    throw new UsageError('The program has no dataset.', 'write one: dataset hero { images = "folder" }');
  return names.length === 0 ? all : all.filter((block) => names.some((name) => isCalled(block, name)));
}

/** A name without the values of sweeps means all variants. */
const isCalled = ({ name, variant }: BlockOf<'dataset'>, wanted: string) => name === wanted || variant?.of === wanted;

function tell(reports: readonly LintReport[], json: boolean): void {
  if (json) {
    const datasets = reports.map((report) => ({
      ...report,
      findings: report.findings.map((one) => ({ ...one, advice: findingKinds[one.code].advice })),
    }));
    process.stdout.write(`${jsonLine({ datasets })}\n`);
    return;
  }
  const look = { color: wantsColor(process.stdout), folder: process.cwd() };
  process.stdout.write(`${reports.map((report) => lintLines(report, look).join('\n')).join('\n\n')}\n`);
}
