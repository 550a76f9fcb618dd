// A picture under a name of the user's.

import type { Stage } from '../stage.ts';

export const savePicture: Stage = {
  name: 'savePicture',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run() {
    throw new Error('Internal error: the stage "savePicture" is not written yet.');
  },
};
