// An average over the steps that a training saved: `raw@ema(0.9)`.

import { pathIn } from '../graph/paths.ts';
import type { Stage } from '../stage.ts';
import { averageFiles } from '../surgery/average.ts';
import { openLora } from '../surgery/weights-file.ts';
import { inputOf } from './input-of.ts';

export const ema: Stage = {
  name: 'ema',
  revision: 1,
  pool: 'cpu',
  runsIn: 'native',
  async run(context) {
    const { decay } = context.node.attributes as unknown as { readonly decay: number };
    await using open = new AsyncDisposableStack();
    const files = [];
    for (let index = 0; context.inputs[`lora.${index}`] !== undefined; index += 1) {
      files.push(open.use(await openLora(inputOf(context, `lora.${index}`).path)));
    }
    const output = pathIn(context.work, 'lora.safetensors');
    await averageFiles(files, {
      decay,
      output,
      signal: context.signal,
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};
