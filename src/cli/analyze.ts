// lorac analyze LORA BASE: which blocks of a LoRA carry what, in numbers and, with prompts, in pictures.
// What was computed and rendered stays in the user's cache, so a stopped analysis goes on and a second one is quick.

import { readFileSync, statSync } from 'node:fs';
import { jsonLine } from '../parser/clean-text.ts';
import { Store } from '../runtime/cache/store.ts';
import { StageFailure } from '../runtime/events.ts';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import { pathIn } from '../runtime/graph/paths.ts';
import { whatFile } from '../runtime/inspect/what-file.ts';
import { CHECKPOINT_LIMITS } from '../runtime/safetensors/header.ts';
import type { AnalyzeReport } from '../runtime/stages/analyze.ts';
import { reportLines } from '../runtime/stages/pictures/analysis-text.ts';
import { isCanonical } from '../runtime/surgery/canonical.ts';
import { openWeights } from '../runtime/surgery/weights-file.ts';
import type { ReporterKind } from '../tui/reporter.ts';
import { analysisFolder, hasPictures, refuseToLosePictures, removeGrid } from './analyze-folder.ts';
import { type AnalyzeJob, analyzeGraph, GRID, REPORT } from './analyze-graph.ts';
import { promptFile, type WrittenPrompts } from './analyze-prompts.ts';
import { openBase, wholeBase } from './base-files.ts';
import { wantsColor } from './color.ts';
import { fileAt } from './lora-arguments.ts';
import { runGraph } from './run-graph.ts';
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
  const { mixedPrecision: mixed_precision, overwrite = false, json, reporter } = options;
  const lora = fileAt(options.lora);
  const folder = analysisFolder(options.output, lora);
  const prompts = promptFile(options);
  const isWithoutPictures = prompts === undefined;
  if (isWithoutPictures && !overwrite) refuseToLosePictures(folder);
  const losesPictures = isWithoutPictures && hasPictures(folder);
  const share = shareOf(options.share);
  const looked = await look(options, prompts !== undefined).catch((error: unknown) => {
    if (!(error instanceof StageFailure)) throw error;
    tellFailure(error.failure);
    return undefined;
  });
  if (looked === undefined) return 1;
  const exitCode = await runGraph({
    graph: analyzeGraph({ lora, ...looked, prompts, share, mixed_precision, folder, overwrite }),
    openStore: (warn) => new Store(userStoreFolder(), { warn }),
    // With --json, stdout is for the report alone.
    stream: json ? process.stderr : process.stdout,
    reporter,
  });
  if (exitCode === 0 && losesPictures) removeGrid(folder);
  if (exitCode === 0) tell(folder, prompts !== undefined, options);
  return exitCode;
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

/** What the two files are. Throws where one of them is something else than it is named for. */
async function look(
  { lora, base }: AnalyzeOptions,
  isRendered: boolean,
): Promise<Pick<AnalyzeJob, 'isCanonical' | 'base' | 'whole'>> {
  await using file = await openWeights(lora, CHECKPOINT_LIMITS);
  const what = whatFile(file);
  if (what.kind === 'other') throw new UsageError(`"${lora}" ${what.message}.`, what.hint ?? 'name a LoRA first');
  if (what.kind === 'checkpoint')
    throw new UsageError(`"${lora}" is a checkpoint.`, 'the LoRA comes first, then its base');
  if (await isLora(base))
    throw new UsageError(`"${base}" is a LoRA.`, 'name the checkpoint that the first one changes');
  const opened = await openBase(base);
  if (isRendered && opened.isSdxl === false) {
    throw new UsageError(
      `"${base}" is no SDXL checkpoint, and pictures need one.`,
      'without prompts it can be analyzed in numbers',
    );
  }
  const whole = isRendered ? wholeBase(base, opened) : opened.files;
  return { isCanonical: isCanonical(file), base: opened.files, whole };
}

async function isLora(path: string): Promise<boolean> {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return false;
  await using file = await openWeights(path, CHECKPOINT_LIMITS);
  return whatFile(file).kind === 'lora';
}

function shareOf(text: string): number {
  const percent = /^(.+)%$/.exec(text)?.[1];
  const share = percent === undefined ? Number(text) : Number(percent) / 100;
  if (share > 0 && share <= 1) return share;
  throw new UsageError(`"--share" needs a number above 0 and at most 1, such as 0.8, and has "${text}".`);
}
