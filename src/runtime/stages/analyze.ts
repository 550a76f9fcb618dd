// Which blocks of a LoRA carry what: norms, spectra, and what a sweep saw.

import type { Stage } from '../stage.ts';

export const analyze: Stage = {
  name: 'analyze',
  revision: 1,
  pool: 'cpu',
  runsIn: 'native',
  async run() {
    throw new Error('Internal error: the stage "analyze" is not written yet.');
  },
};
