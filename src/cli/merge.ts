// lorac merge A[:WEIGHT] B[:WEIGHT] … -o OUT: one LoRA that does what several do together.

import { parse } from 'node:path';
import { cleanLine } from '../parser/clean-text.ts';
import type { LoraFormat } from '../parser/lora-formats.ts';
import { StageFailure } from '../runtime/events.ts';
import { SafetensorsError } from '../runtime/safetensors/error.ts';
import { type Merged, mergeFiles } from '../runtime/surgery/merge/file.ts';
import type { MergeInput } from '../runtime/surgery/merge/input.ts';
import type { Precision } from '../runtime/surgery/merge/numbers.ts';
import { openLora, unreadable } from '../runtime/surgery/weights-file.ts';
import { count, size } from '../tui/units.ts';
import { outputFile, writingTo } from './output-file.ts';
import { openProgressLine } from './progress-line.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';
import { tellFailure, tellWarning } from './tell-failure.ts';
import { readWeightedPath, type WeightedPath } from './weighted-path.ts';

export interface MergeOptions {
  /** `hero.safetensors:0.5`. */
  readonly loras: readonly string[];
  readonly output: string;
  readonly precision: Precision;
  readonly format?: LoraFormat;
  readonly overwrite?: boolean;
}

export async function merge({ loras, precision, format = 'kohya', ...options }: MergeOptions): Promise<number> {
  const terms = loras.map(readWeightedPath);
  const output = outputFile({
    path: options.output,
    name: 'merged.safetensors',
    inputs: terms.map(({ path }) => path),
    overwrite: options.overwrite ?? false,
  });
  using stop = listenForStop();
  try {
    await using files = new AsyncDisposableStack();
    const inputs: MergeInput[] = [];
    for (const { path, weight } of terms) {
      inputs.push({ file: files.use(await openLora(path)), label: path, weight });
    }
    const merged = await written(inputs, { output, precision, format, signal: stop.signal });
    process.stdout.write(`${told(terms, merged, output).map(cleanLine).join('\n')}\n`);
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return INTERRUPTED;
    const told = error instanceof SafetensorsError ? unreadable(error) : error;
    if (!(told instanceof StageFailure)) throw error;
    tellFailure(told.failure);
    return 1;
  }
}

interface Wanted {
  readonly output: string;
  readonly precision: Precision;
  readonly format: LoraFormat;
  readonly signal: AbortSignal;
}

async function written(inputs: readonly MergeInput[], wanted: Wanted): Promise<Merged> {
  using line = openProgressLine();
  return await writingTo(wanted.output, () =>
    mergeFiles(inputs, {
      ...wanted,
      title: parse(wanted.output).name,
      warn: tellWarning,
      onProgress: (done, total) => line.show(`merging: ${size(done)} of ${size(total)}`),
    }),
  );
}

function told(
  terms: readonly WeightedPath[],
  { summed, single, forms, ranks, sizeBytes }: Merged,
  output: string,
): string[] {
  const files = terms.map(({ path, weight }) => (weight === 1 ? path : `${path} × ${weight}`));
  const others = [...forms].filter(([form]) => form !== 'LoRA').map(([form, modules]) => `${modules} ${form}`);
  return [
    `merged   ${files.join(', ')}`,
    `modules  ${count(summed, 'sum')}${single === 0 ? '' : `, ${single} of one file alone`}${others.length === 0 ? '' : ` (${others.join(', ')})`}`,
    ...(ranks === undefined ? [] : [`ranks    ${ranks[0] === ranks[1] ? ranks[0] : `${ranks[0]} to ${ranks[1]}`}`]),
    `saved    ${output}, ${size(sizeBytes)}`,
  ];
}
