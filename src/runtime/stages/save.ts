// A LoRA under a name: the header says the name, the tensors' bytes are copied.
// Placing the result where the user wants it is the executor's.

import { pathIn } from '../graph/paths.ts';
import { type TensorToWrite, writeSafetensors } from '../safetensors/writer.ts';
import type { Stage } from '../stage.ts';
import { copied } from './weigh.ts';
import { openLora } from './weights-file.ts';

export const save: Stage = {
  name: 'save',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run(context) {
    const { lora } = context.inputs;
    const { title } = context.node.attributes;
    if (lora === undefined || typeof title !== 'string')
      throw new Error('Internal error: a save has no LoRA or no title.');
    await using file = await openLora(lora.path);
    const tensors: readonly TensorToWrite[] = copied(file, file.header.tensors.keys());
    const output = pathIn(context.work, 'lora.safetensors');
    await writeSafetensors({
      path: output,
      tensors,
      metadata: new Map([...(file.header.metadata ?? []), ['ss_output_name', title], ['modelspec.title', title]]),
      hashes: true,
      signal: context.signal,
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};
