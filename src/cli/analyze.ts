// lorac analyze LORA BASE: which blocks of a LoRA carry what, in numbers and, with prompts, in pictures.
// What was computed and rendered stays in the user's cache, so a stopped analysis goes on and a second one is quick.

import { readFileSync, statSync } from 'node:fs';
import { dirname, parse, resolve } from 'node:path';
import { jsonLine } from '../parser/clean-text.ts';
import { Store } from '../runtime/cache/store.ts';
import { StageFailure } from '../runtime/events.ts';
import { runBuild } from '../runtime/executor/build.ts';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import { absolutePath, pathIn } from '../runtime/graph/paths.ts';
import { whatFile } from '../runtime/inspect/what-file.ts';
import { CHECKPOINT_LIMITS } from '../runtime/safetensors/header.ts';
import type { AnalyzeReport } from '../runtime/stages/analyze.ts';
import { reportLines } from '../runtime/stages/analyze-text.ts';
import { isCanonical } from '../runtime/stages/canonical.ts';
import { openWeights } from '../runtime/stages/weights-file.ts';
import { chooseReporter, openReporter, type ReporterKind } from '../tui/reporter.ts';
import { analyzeGraph, GRID, REPORT } from './analyze-graph.ts';
import { promptFile, type WrittenPrompts } from './analyze-prompts.ts';
import { wantsColor } from './color.ts';
import { workerStarter } from './start-worker.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';
import { tellFailure } from './tell-failure.ts';
import { UsageError } from './usage-error.ts';
import { userStoreFolder } from './user-store.ts';

export interface AnalyzeOptions extends WrittenPrompts {
  readonly lora: string;
  readonly base: string;
  readonly share: string;
  readonly mixedPrecision: 'bf16' | 'fp32';
  readonly output?: string;
  readonly overwrite?: boolean;
  readonly json?: boolean;
  readonly reporter?: ReporterKind;
}

export async function analyze(options: AnalyzeOptions): Promise<number> {
  const lora = fileAt(options.lora);
  const base = fileAt(options.base);
  const folder = folderFor(options, lora);
  const prompts = promptFile(options);
  const share = shareOf(options.share);
  using stop = listenForStop();
  let isReadable: boolean;
  try {
    isReadable = await examine(lora, base, prompts !== undefined);
  } catch (error) {
    if (!(error instanceof StageFailure)) throw error;
    tellFailure(error.failure);
    return 1;
  }
  const { mixedPrecision: mixed_precision, overwrite = false } = options;
  const graph = analyzeGraph({
    lora,
    isCanonical: isReadable,
    base,
    prompts,
    share,
    mixed_precision,
    folder,
    overwrite,
  });

  // Nobody reads on, as after `| head`: the same as a Ctrl-C.
  process.stdout.once('error', stop.request);
  // With --json, stdout is for the report alone.
  const stdout = options.json ? process.stderr : process.stdout;
  const reporter = await openReporter(options.reporter ?? chooseReporter(stdout, process.env), {
    stdout,
    color: wantsColor(stdout),
    folder: process.cwd(),
    now: () => performance.now(),
  });
  try {
    const warn = (message: string) => reporter.listen({ type: 'message', level: 'warning', message });
    const { ok, interrupted } = await runBuild({
      graph,
      store: new Store(userStoreFolder(), { warn }),
      signal: stop.signal,
      listener: reporter.listen,
      startWorker: workerStarter(reporter.listen, stop.signal),
    });
    if (interrupted) return INTERRUPTED;
    if (!ok) return 1;
  } finally {
    await reporter.close();
  }
  tell(folder, prompts !== undefined, options);
  return 0;
}

/** What was placed a moment ago is what the store has. */
function tell(folder: AbsolutePath, hasGrid: boolean, { json, lora, reporter }: AnalyzeOptions): void {
  const report = JSON.parse(readFileSync(pathIn(folder, REPORT), 'utf8')) as AnalyzeReport;
  if (json) {
    process.stdout.write(`${jsonLine(report)}\n`);
  } else if (reporter !== 'json') {
    const lines = reportLines(report, { color: wantsColor(process.stdout), file: lora });
    const grid = hasGrid ? [`the pictures side by side: ${pathIn(folder, GRID)}`] : [NO_PICTURES];
    process.stdout.write(`${['', ...lines, '', ...grid].join('\n')}\n`);
  }
}

const NO_PICTURES =
  'These are numbers alone. With --prompt TEXT each block is switched on and off in pictures, and measured there.';

/** Whether the LoRA has the form that stages read. Throws where one of the two files is something else. */
async function examine(lora: string, base: string, isRendered: boolean): Promise<boolean> {
  await using file = await openWeights(lora, CHECKPOINT_LIMITS);
  await using checkpoint = await openWeights(base, CHECKPOINT_LIMITS);
  const [what, whatBase] = [whatFile(file), whatFile(checkpoint)];
  if (what.kind === 'checkpoint' && whatBase.kind === 'lora') {
    throw new UsageError(`"${lora}" is a checkpoint, and "${base}" a LoRA.`, 'name the LoRA first, then its base');
  }
  if (what.kind !== 'lora') {
    throw new UsageError(`"${lora}" ${what.kind === 'other' ? what.message : 'is a checkpoint'}.`, 'name a LoRA first');
  }
  if (whatBase.kind === 'lora') throw new UsageError(`"${base}" is a LoRA.`, 'name the checkpoint that it changes');
  if (isRendered && whatBase.kind === 'other') {
    throw new UsageError(`"${base}" ${whatBase.message}.`, whatBase.hint ?? 'pictures need an SDXL checkpoint');
  }
  return isCanonical(file);
}

function fileAt(path: string): AbsolutePath {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new UsageError(`There is no file "${path}".`);
  if (!found.isFile()) throw new UsageError(`"${path}" is not a file.`);
  return absolutePath(resolve(path));
}

function folderFor({ output }: AnalyzeOptions, lora: AbsolutePath): AbsolutePath {
  if (output === undefined) return pathIn(absolutePath(dirname(lora)), `${parse(lora).name}-analysis`);
  if (statSync(output, { throwIfNoEntry: false })?.isDirectory() === false) {
    throw new UsageError(`"${output}" is not a folder.`, '-o names the folder that gets report.json and grid.png');
  }
  return absolutePath(resolve(output));
}

function shareOf(text: string): number {
  const percent = /^(.+)%$/.exec(text)?.[1];
  const share = percent === undefined ? Number(text) : Number(percent) / 100;
  if (share > 0 && share <= 1) return share;
  throw new UsageError(`"--share" needs a number above 0 and at most 1, such as 0.8, and has "${text}".`);
}
