// A LoRA under a name, with the names of modules that a format has: the header says the file's name, bytes are copied.
// Placing the result where the user wants it is the executor's.

import { LORA_FORMATS } from '../../parser/lora-formats.ts';
import { pathIn } from '../graph/paths.ts';
import { writeSafetensors } from '../safetensors/writer.ts';
import type { Stage } from '../stage.ts';
import { fileTensors } from '../surgery/canonical.ts';
import { inFormat } from '../surgery/in-format.ts';
import { openLora } from '../surgery/weights-file.ts';

export const save: Stage = {
  name: 'save',
  revision: 2,
  pool: 'io',
  runsIn: 'native',
  async run(context) {
    const { lora } = context.inputs;
    const { title, format: written = 'kohya' } = context.node.attributes;
    const format = LORA_FORMATS.find((each) => each === written);
    if (lora === undefined || typeof title !== 'string' || format === undefined)
      throw new Error('Internal error: a save has no LoRA, no title or no format.');
    await using file = await openLora(lora.path);
    // Messages name the file that was asked for, not where its content lies.
    const { tensors, metadata } = await inFormat({ ...fileTensors(file), path: `${title}.safetensors` }, format);
    const output = pathIn(context.work, 'lora.safetensors');
    await writeSafetensors({
      path: output,
      tensors,
      metadata: new Map([...(metadata ?? []), ['ss_output_name', title], ['modelspec.title', title]]),
      hashes: true,
      signal: context.signal,
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};
