// A LoRA with only some blocks of another, each multiplied by its weight.

import { pathIn } from '../graph/paths.ts';
import { type BlockChoice, blockWeights } from '../sdxl/block-weights.ts';
import { groupModules } from '../sdxl/lora.ts';
import type { Stage } from '../stage.ts';
import { chopFile } from './chop-file.ts';
import { inputOf } from './input-of.ts';
import { openLora } from './weights-file.ts';

export const chop: Stage = {
  name: 'chop',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  canonical: (written) => ({ weights: blockWeights(written as BlockChoice) }),
  async run(context) {
    await using file = await openLora(inputOf(context, 'lora').path);
    const output = pathIn(context.work, 'lora.safetensors');
    await chopFile(file, groupModules(file.header.tensors.keys()), {
      output,
      choice: context.node.settings as BlockChoice,
      signal: context.signal,
      warn: (message) => context.report({ type: 'log', level: 'warning', message }),
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};
