// Pictures with one block of a LoRA on, or off, and how far each is from none and from all of it.

import type { Stage } from '../stage.ts';

export const sweep: Stage = {
  name: 'sweep',
  revision: 1,
  pool: 'gpu',
  runsIn: 'worker',
  async run() {
    throw new Error('Internal error: the stage "sweep" is not written yet.');
  },
};
