// A weighted sum of LoRAs.

import type { Stage } from '../stage.ts';

export const merge: Stage = {
  name: 'merge',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run() {
    throw new Error('Internal error: the stage "merge" is not written yet.');
  },
};
