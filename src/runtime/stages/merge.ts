// A weighted sum of LoRAs.

import { pathIn } from '../graph/paths.ts';
import type { Stage, StageContext } from '../stage.ts';
import { mergeFiles } from '../surgery/merge/file.ts';
import type { MergeInput } from '../surgery/merge/input.ts';
import type { Precision } from '../surgery/merge/numbers.ts';
import { openLora } from '../surgery/weights-file.ts';
import { inputOf } from './input-of.ts';

/** `weights` are of `lora.0`, `lora.1` and so on. */
interface Attributes {
  readonly weights: readonly number[];
  readonly precision: Precision;
}

export const merge: Stage = {
  name: 'merge',
  revision: 4,
  pool: 'cpu',
  runsIn: 'native',
  async run(context) {
    const { weights, precision } = context.node.attributes as unknown as Attributes;
    await using files = new AsyncDisposableStack();
    const inputs: MergeInput[] = [];
    for (const [index, weight] of weights.entries()) {
      const role = `lora.${index}`;
      const file = files.use(await openLora(inputOf(context, role).path));
      inputs.push({ file, weight, label: labelOf(context, role) });
    }
    const output = pathIn(context.work, 'lora.safetensors');
    await mergeFiles(inputs, {
      output,
      precision,
      format: 'kohya',
      signal: context.signal,
      warn: (message) => context.report({ type: 'log', level: 'warning', message }),
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};

/** The block or file that the program names: stored results have paths that say nothing. */
function labelOf({ node, inputs }: StageContext, role: string): string {
  return node.inputs[role]?.node ?? node.files[role] ?? inputs[role]?.path ?? role;
}
