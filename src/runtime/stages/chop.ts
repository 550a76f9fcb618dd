// A LoRA with only some blocks of another, each multiplied by its weight.

import { SDXL } from '../../parser/blocks.ts';
import { StageFailure } from '../events.ts';
import { pathIn } from '../graph/paths.ts';
import { type BlockChoice, blockWeights } from '../sdxl/block-weights.ts';
import { groupModules } from '../sdxl/lora.ts';
import type { Stage } from '../stage.ts';
import { chopFile } from '../surgery/chop-file.ts';
import { openLora } from '../surgery/weights-file.ts';
import { inputOf } from './input-of.ts';

export const chop: Stage = {
  name: 'chop',
  revision: 2,
  pool: 'io',
  runsIn: 'native',
  canonical: (written) => ({ weights: blockWeights(written as BlockChoice) }),
  async run(context) {
    await using file = await openLora(inputOf(context, 'lora').path);
    const content = groupModules(file.header.tensors.keys(), file.header.tensors);
    if (content.network !== SDXL) {
      throw new StageFailure({
        kind: 'bad-input',
        message: `The LoRA is one for ${content.network.title}, and the blocks that a program names are those of SDXL.`,
        hint: 'lorac chop FILE knows its blocks; a lora block can read what it writes.',
      });
    }
    const output = pathIn(context.work, 'lora.safetensors');
    await chopFile(file, content, {
      output,
      choice: context.node.settings as BlockChoice,
      signal: context.signal,
      warn: (message) => context.report({ type: 'log', level: 'warning', message }),
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};
