// What a run wrote, under a name of the user's: its bytes as they are. Placing it where the user wants it is the
// executor's.

import { constants } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { pathIn } from '../graph/paths.ts';
import type { Stage } from '../stage.ts';
import { inputOf } from './input-of.ts';

export const saveFile: Stage = {
  name: 'saveFile',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run(context) {
    const output = pathIn(context.work, 'file');
    await copyFile(inputOf(context, 'file').path, output, constants.COPYFILE_FICLONE);
    return { outputs: { file: output } };
  },
};
