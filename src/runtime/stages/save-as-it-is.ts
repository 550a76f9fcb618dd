// A picture, or what a run wrote, under a name of the user's: its bytes as they are. Placing it where the user wants it
// is the executor's.

import { constants } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { pathIn } from '../graph/paths.ts';
import type { Stage } from '../stage.ts';
import { inputOf } from './input-of.ts';

export const savePicture = copying('savePicture', 'picture');
export const saveFile = copying('saveFile', 'file');

/** `role` is what the input is called, and the output. */
function copying(name: string, role: string): Stage {
  return {
    name,
    revision: 1,
    pool: 'io',
    runsIn: 'native',
    async run(context) {
      const output = pathIn(context.work, role);
      // Shares the bytes on the disk where the file system can.
      await copyFile(inputOf(context, role).path, output, constants.COPYFILE_FICLONE);
      return { outputs: { [role]: output } };
    },
  };
}
