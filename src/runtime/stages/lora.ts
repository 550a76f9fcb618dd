// A LoRA file of any trainer, in the names and the form that all other stages read.

import type { Stage } from '../stage.ts';

export const lora: Stage = {
  name: 'lora',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run() {
    throw new Error('Internal error: the stage "lora" is not written yet.');
  },
};
