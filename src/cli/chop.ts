// lorac chop FILE: which blocks a LoRA file has, or another file with only some of them.

import { existsSync } from 'node:fs';
import { join, parse } from 'node:path';
import { cleanLine } from '../parser/clean-text.ts';
import type { LoraFormat } from '../parser/lora-formats.ts';
import { StageFailure } from '../runtime/events.ts';
import type { SafetensorsFile } from '../runtime/safetensors/file.ts';
import { blockLayout, layoutLines } from '../runtime/sdxl/block-layout.ts';
import { groupModules } from '../runtime/sdxl/lora.ts';
import { type Chopped, chopFile, presentBlocks } from '../runtime/surgery/chop-file.ts';
import { openLora } from '../runtime/surgery/weights-file.ts';
import { count, size } from '../tui/units.ts';
import { readChoice, type WrittenChoice } from './block-choice.ts';
import { fileAt } from './lora-arguments.ts';
import { outputFile, writingTo } from './output-file.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';
import { tellFailure, tellWarning } from './tell-failure.ts';
import { UsageError } from './usage-error.ts';

export interface ChopOptions extends WrittenChoice {
  readonly file: string;
  readonly output?: string;
  readonly format?: LoraFormat;
  readonly overwrite?: boolean;
}

export async function chop(options: ChopOptions): Promise<number> {
  const input = inputOf(options);
  using stop = listenForStop();
  try {
    await using file = await openLora(input);
    const content = groupModules(file.header.tensors.keys(), file.header.tensors);
    if (content.modules.length === 0) throw noModules(input);
    const chosen = readChoice(options, { network: content.network, present: presentBlocks(content) });
    if (chosen === undefined && options.format === undefined) {
      process.stdout.write(`${layoutLines(blockLayout(content)).join('\n')}\n`);
      return 0;
    }
    const output = outputOf(options);
    for (const message of chosen?.warnings ?? []) tellWarning(message);
    const chopped = await writingTo(output, () =>
      chopFile(file, content, {
        output,
        // Another format alone leaves every block as it is.
        choice: chosen?.choice ?? { drop: [] },
        format: options.format ?? 'kohya',
        signal: stop.signal,
        warn: tellWarning,
      }),
    );
    process.stdout.write(`${told(file, chopped, output).map(cleanLine).join('\n')}\n`);
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return INTERRUPTED;
    if (!(error instanceof StageFailure)) throw error;
    tellFailure(error.failure);
    return 1;
  }
}

/** Throws `UsageError`. The vector may stand before the file by mistake. */
function inputOf({ file, vector }: ChopOptions): string {
  if (vector !== undefined && !existsSync(file) && existsSync(vector)) {
    throw new UsageError(`There is no file "${file}".`, `the file comes first: lorac chop ${vector} ${file}`);
  }
  fileAt(file);
  return file;
}

function noModules(path: string): StageFailure {
  return new StageFailure({
    kind: 'bad-input',
    message: `"${path}" has no LoRA modules.`,
    hint: '`lorac inspect` says what it is; only LoRAs and their like have blocks to chop.',
  });
}

/** Beside the input, called as chop_blocks calls it, unless something else is asked for. */
function outputOf({ file, output, overwrite = false }: ChopOptions): string {
  const { dir, name } = parse(file);
  const chopped = `${name}-chop.safetensors`;
  return outputFile({ path: output ?? join(dir, chopped), name: chopped, inputs: [file], overwrite });
}

function told(
  file: SafetensorsFile,
  { kept, dropped, tensors, renamed, sizeBytes }: Chopped,
  output: string,
): string[] {
  const blocks = kept.map(({ block, weight }) => (weight === 1 ? block : `${block} × ${weight}`));
  return [
    `kept     ${blocks.join(', ')}`,
    ...(dropped.length === 0 ? [] : [`dropped  ${dropped.join(', ')}`]),
    `tensors  ${tensors} of ${count(file.header.tensors.size, 'tensor')}, ${size(sizeBytes)} of ${size(file.sizeBytes)}`,
    ...(renamed === undefined ? [] : [`names    ${renamed}`]),
    `saved    ${output}`,
  ];
}
