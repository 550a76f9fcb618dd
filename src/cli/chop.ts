// lorac chop FILE: which blocks a LoRA file has, or another file with only some of them.

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
import { outputFile } from './output-file.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';
import { tellFailure, tellWarning } from './tell-failure.ts';

export interface ChopOptions extends WrittenChoice {
  readonly file: string;
  readonly output?: string;
  readonly format?: LoraFormat;
  readonly overwrite?: boolean;
}

export async function chop(options: ChopOptions): Promise<number> {
  using stop = listenForStop();
  try {
    await using file = await openLora(options.file);
    const content = groupModules(file.header.tensors.keys(), file.header.tensors);
    const chosen = readChoice(options, { network: content.network, present: presentBlocks(content) });
    if (chosen === undefined && options.format === undefined) {
      process.stdout.write(`${layoutLines(blockLayout(content)).join('\n')}\n`);
      return 0;
    }
    const output = outputOf(options);
    for (const message of chosen?.warnings ?? []) tellWarning(message);
    const chopped = await chopFile(file, content, {
      output,
      // Another format alone leaves every block as it is.
      choice: chosen?.choice ?? { drop: [] },
      format: options.format ?? 'kohya',
      signal: stop.signal,
      warn: tellWarning,
    });
    process.stdout.write(`${told(file, chopped, output).map(cleanLine).join('\n')}\n`);
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return INTERRUPTED;
    if (!(error instanceof StageFailure)) throw error;
    tellFailure(error.failure);
    return 1;
  }
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
