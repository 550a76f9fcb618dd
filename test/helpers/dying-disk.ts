// A process that is killed between two changes of the disk, without a process: from a chosen one on, all of them throw.

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const changing = ['copyFile', 'mkdir', 'open', 'rename', 'rm', 'writeFile'] as const;

class Dead extends Error {}

/** Does the work as far as before its change number `at` (from 1). Whether it was over by then. */
export async function survives(at: number, work: () => Promise<unknown>): Promise<boolean> {
  const promises = fs.promises as unknown as { [name: string]: (...args: readonly unknown[]) => Promise<unknown> };
  const real = Object.fromEntries(changing.map((name) => [name, promises[name] as (typeof promises)[string]]));
  let done = 0;
  for (const [name, change] of Object.entries(real)) {
    promises[name] = (...args) => {
      done += 1;
      return done < at ? change(...args) : Promise.reject(new Dead(`killed before a ${name}`));
    };
  }
  syncBuiltinESMExports();
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Dead)) throw error;
  } finally {
    Object.assign(promises, real);
    syncBuiltinESMExports();
  }
  return done < at;
}
