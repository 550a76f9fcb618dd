// lorac inspect: what is in a LoRA file, or in a checkpoint; with a second file, what differs, or how strong it is there.

import { jsonLine } from '../parser/clean-text.ts';
import type { Digest } from '../runtime/cache/digest.ts';
import { StageFailure } from '../runtime/events.ts';
import { measureBase } from '../runtime/inspect/base-norms.ts';
import { openBase } from '../runtime/inspect/base-weights.ts';
import { compareLoras } from '../runtime/inspect/compare.ts';
import { measureDifference, measureNorms, type NormOptions, type Norms, type Side } from '../runtime/inspect/norms.ts';
import { type LoraReport, reportLora } from '../runtime/inspect/report.ts';
import { warningsOf } from '../runtime/inspect/warnings.ts';
import { whatFile } from '../runtime/inspect/what-file.ts';
import { SafetensorsError } from '../runtime/safetensors/error.ts';
import type { SafetensorsFile } from '../runtime/safetensors/file.ts';
import { type FileHashes, hashesOf } from '../runtime/safetensors/hashes.ts';
import { CHECKPOINT_LIMITS } from '../runtime/safetensors/header.ts';
import { NonFiniteScan } from '../runtime/safetensors/non-finite.ts';
import { openWeights } from '../runtime/surgery/weights-file.ts';
import { wantsColor } from './color.ts';
import { checkpointJson, loraJson } from './inspect-json.ts';
import { checkpointLines, comparisonLines, loraLines } from './inspect-text.ts';
import type { Compared, Inspected, OtherFile } from './inspected.ts';
import { fileAt } from './lora-arguments.ts';
import { openProgressLine } from './progress-line.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';
import { tellFailure } from './tell-failure.ts';
import { UsageError } from './usage-error.ts';

export interface InspectOptions {
  readonly file: string;
  readonly other: string | undefined;
  readonly json?: boolean;
  readonly norms?: boolean;
  /** `undefined`: of LoRAs, and not of checkpoints, which take long. */
  readonly hashes?: boolean;
}

export async function inspect(options: InspectOptions): Promise<number> {
  for (const path of [options.file, options.other]) if (path !== undefined) fileAt(path);
  using stop = listenForStop();
  try {
    await using file = await openWeights(options.file, CHECKPOINT_LIMITS);
    await using other = options.other === undefined ? undefined : await openWeights(options.other, CHECKPOINT_LIMITS);
    const what = whatFile(file);
    if (what.kind === 'lora') await tellLora(file, other, options, stop.signal);
    else if (other !== undefined)
      throw new UsageError(`"${file.path}" is no LoRA, so there is nothing to compare.`, 'name the LoRA first');
    else await tellOther(file, what, options, stop.signal);
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return INTERRUPTED;
    // A file may become shorter while it is read.
    const told =
      error instanceof SafetensorsError ? new StageFailure({ kind: 'bad-input', message: error.message }) : error;
    if (!(told instanceof StageFailure)) throw error;
    tellFailure(told.failure);
    return 1;
  }
}

async function tellLora(
  file: SafetensorsFile,
  other: SafetensorsFile | undefined,
  options: InspectOptions,
  signal: AbortSignal,
): Promise<void> {
  const whatOther = other && whatFile(other);
  if (other !== undefined && whatOther?.kind === 'other') {
    throw new UsageError(
      `"${other.path}" ${whatOther.message}.`,
      'the second file is another LoRA, or the checkpoint of the first',
    );
  }
  const base = whatOther?.kind === 'checkpoint' ? other : undefined;
  const color = wantsColor(process.stdout);
  const seen = await look(file, options, signal);
  if (other === undefined || base !== undefined) {
    const { modules } = seen.report;
    const weights = base && openBase(base);
    const wantsNorms = options.norms === true || base !== undefined;
    const stored = wantsNorms ? await lookUp(seen, signal) : undefined;
    const told = { ...withProgress('measuring', signal), base: weights, spectra: stored?.spectra };
    const norms = wantsNorms ? await measureNorms(file, modules, told) : undefined;
    const baseNorms = weights && (await measureBase(weights, modules, withProgress('measuring the base', signal)));
    const first = { ...inspected(seen, norms, baseNorms), normsFrom: stored?.store };
    return print(options.json ? [jsonLine(loraJson(first, undefined))] : loraLines(first, color));
  }
  const seenOther = await look(other, options, signal);
  const comparison = compareLoras(seen.report, seenOther.report);
  const sides = [seen, seenOther].map(({ file: from, report }) => ({ file: from, modules: report.modules }));
  const [one, two] = sides as [Side, Side];
  const difference = options.norms ? await measureDifference(one, two, withProgress('comparing', signal)) : undefined;
  const first = inspected(seen, difference?.first, undefined);
  const compared: Compared = { second: inspected(seenOther, difference?.second, undefined), comparison, difference };
  print(options.json ? [jsonLine(loraJson(first, compared))] : comparisonLines(first, compared, color));
}

/** Imported when norms are asked for: stages know the worker, and a view of a header need not. */
async function lookUp({ file, hashes }: Seen, signal: AbortSignal) {
  const { storedSpectra } = await import('./stored-decomposition.ts');
  return storedSpectra(file.path, hashes?.file as Digest | undefined, signal);
}

interface Seen {
  readonly file: SafetensorsFile;
  readonly report: LoraReport;
  readonly hashes: FileHashes | undefined;
  /** Tensors with NaN or infinity: looked for where all bytes are read anyway. */
  readonly nonFinite: readonly string[] | undefined;
}

async function look(file: SafetensorsFile, { hashes }: InspectOptions, signal: AbortSignal): Promise<Seen> {
  const report = reportLora(file);
  if (hashes === false) return { file, report, hashes: undefined, nonFinite: undefined };
  const scan = new NonFiniteScan(file);
  const found = await hashesOf(file.path, { signal, onBytes: (bytes, position) => scan.update(bytes, position) });
  return { file, report, hashes: found, nonFinite: await scan.names() };
}

function inspected(
  { file, report, hashes, nonFinite }: Seen,
  norms: Norms | undefined,
  base: ReadonlyMap<string, number> | undefined,
): Inspected {
  const warnings = [...file.header.warnings, ...warningsOf(report, { hashes, norms, nonFinite })];
  return { report, hashes, norms, normsFrom: undefined, base, warnings };
}

async function tellOther(
  file: SafetensorsFile,
  what: OtherFile,
  options: InspectOptions,
  signal: AbortSignal,
): Promise<void> {
  const hashes = options.hashes === true ? await hashesOf(file.path, { signal }) : undefined;
  if (options.json) return print([jsonLine(checkpointJson(file, what, hashes))]);
  print(checkpointLines(file, what, hashes));
}

function withProgress(doing: string, signal: AbortSignal): NormOptions {
  const line = openProgressLine();
  const onProgress = (done: number, total: number): void => {
    if (done + 1 === total) line.clear();
    else line.show(`${doing}: ${done} of ${total} modules`);
  };
  return { signal, onProgress };
}

function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}
