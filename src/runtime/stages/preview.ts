// Pictures of prompts with several LoRAs or strengths, as one labelled grid.

import type { Stage } from '../stage.ts';

export const preview: Stage = {
  name: 'preview',
  revision: 1,
  pool: 'gpu',
  runsIn: 'worker',
  async run() {
    throw new Error('Internal error: the stage "preview" is not written yet.');
  },
};
