// U, σ and V of every module of a LoRA, so that resizing afterwards is only choosing.
// With `extract`, modules of other families become LoRA of at most that rank on the way. GLoRA needs the base for it.

import { pathIn } from '../graph/paths.ts';
import type { Stage } from '../stage.ts';
import { lockedTools } from '../worker/lock-file.ts';
import { askWorker } from './ask-worker.ts';
import { checkpointFiles } from './checkpoint-files.ts';
import { inputOf } from './input-of.ts';

export const decompose: Stage = {
  name: 'decompose',
  revision: 3,
  pool: 'gpu',
  runsIn: 'worker',
  tools: () => lockedTools(['torch']),
  async run(context) {
    const factors = pathIn(context.work, 'factors.safetensors');
    const modules = pathIn(context.work, 'modules.json');
    const lora = inputOf(context, 'lora').path;
    const { extract = null } = context.node.attributes as { readonly extract?: number };
    const base = checkpointFiles(context);
    const checkpoints = extract === null || base.length === 0 ? null : base;
    const { record } = await askWorker(context, { op: 'decompose', lora, extract, checkpoints, factors, modules });
    return { outputs: { factors, modules }, record };
  },
};
