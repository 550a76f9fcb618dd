// Numbers of the base weights that resize recipes refer to: three stages, so that a recipe computes only what it names.

import { pathIn } from '../graph/paths.ts';
import type { Stage } from '../stage.ts';
import { lockedTools } from '../worker/lock-file.ts';
import type { ReferenceNumbers } from '../worker/protocol.ts';
import { askWorker } from './ask-worker.ts';
import { checkpointFiles } from './checkpoint-files.ts';
import { inputOf } from './input-of.ts';

/** The Frobenius norm of each module's base weight. */
export const frobenius = referenceNumbers('frobenius');

/** The largest singular value of each module's base weight. */
export const spectral = referenceNumbers('spectral');

/** For each direction of each module, how strongly the base weight acts along it. */
export const projections = referenceNumbers('projections');

function referenceNumbers(op: ReferenceNumbers['op']): Stage {
  return {
    name: op,
    revision: 2,
    pool: 'gpu',
    runsIn: 'worker',
    tools: () => lockedTools(['torch']),
    async run(context) {
      const numbers = pathIn(context.work, 'numbers.json');
      const { record } = await askWorker(context, {
        op,
        checkpoints: checkpointFiles(context),
        modules: inputOf(context, 'modules').path,
        factors: op === 'projections' ? inputOf(context, 'factors').path : null,
        output: numbers,
      });
      return { outputs: { numbers }, record };
    },
  };
}
