// lorac inspect: what is in a LoRA file, or in a checkpoint; with a second file, what differs, or how strong it is there.

import { jsonLine } from '../parser/clean-text.ts';
import { StageFailure } from '../runtime/events.ts';
import { measureBase } from '../runtime/inspect/base-norms.ts';
import { compareLoras } from '../runtime/inspect/compare.ts';
import { measureDifference, measureNorms, type NormOptions } from '../runtime/inspect/norms.ts';
import { reportLora } from '../runtime/inspect/report.ts';
import { warningsOf } from '../runtime/inspect/warnings.ts';
import { whatFile } from '../runtime/inspect/what-file.ts';
import type { SafetensorsFile } from '../runtime/safetensors/file.ts';
import { hashesOf } from '../runtime/safetensors/hashes.ts';
import { CHECKPOINT_LIMITS } from '../runtime/safetensors/header.ts';
import { openWeights } from '../runtime/stages/weights-file.ts';
import { wantsColor } from './color.ts';
import { checkpointJson, loraJson } from './inspect-json.ts';
import { checkpointLines, comparisonLines, loraLines } from './inspect-text.ts';
import type { Compared, Inspected, OtherFile } from './inspected.ts';
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
    if (!(error instanceof StageFailure)) throw error;
    tellFailure(error.failure);
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
  const first = await inspectLora(file, base, options, signal);
  if (other === undefined || base !== undefined) {
    return options.json
      ? print([jsonLine(loraJson(first, undefined))])
      : print(loraLines(first, wantsColor(process.stdout)));
  }
  const second = await inspectLora(other, undefined, options, signal);
  const comparison = compareLoras(first.report, second.report);
  const difference = options.norms
    ? await measureDifference(
        { file, modules: first.report.modules },
        { file: other, modules: second.report.modules },
        withProgress('comparing', signal),
      )
    : undefined;
  const compared: Compared = { second, comparison, difference };
  print(
    options.json ? [jsonLine(loraJson(first, compared))] : comparisonLines(first, compared, wantsColor(process.stdout)),
  );
}

async function inspectLora(
  file: SafetensorsFile,
  baseFile: SafetensorsFile | undefined,
  options: InspectOptions,
  signal: AbortSignal,
): Promise<Inspected> {
  const report = reportLora(file);
  const hashes = options.hashes === false ? undefined : await hashesOf(file.path, { signal });
  const wantsNorms = options.norms || baseFile !== undefined;
  const norms = wantsNorms ? await measureNorms(file, report.modules, withProgress('measuring', signal)) : undefined;
  const base = baseFile && (await measureBase(baseFile, report.modules, withProgress('measuring the base', signal)));
  return { report, hashes, norms, base, warnings: [...file.header.warnings, ...warningsOf(report, { hashes, norms })] };
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

/** A line on the terminal that goes away again; nothing where nobody looks. */
function withProgress(doing: string, signal: AbortSignal): NormOptions {
  if (process.stderr.isTTY !== true) return { signal };
  let toldMs = performance.now();
  return {
    signal,
    onProgress: (done, total) => {
      const nowMs = performance.now();
      if (done + 1 === total) process.stderr.write('\r\u001b[K');
      else if (nowMs - toldMs > 200) {
        toldMs = nowMs;
        process.stderr.write(`\r\u001b[K${doing}: ${done} of ${total} modules`);
      }
    },
  };
}

function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}
