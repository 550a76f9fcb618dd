// Files that were written a moment ago are not trusted by the stat cache. This lets them grow old enough.

import { setTimeout } from 'node:timers/promises';

export async function settle(): Promise<void> {
  await setTimeout(60);
}
