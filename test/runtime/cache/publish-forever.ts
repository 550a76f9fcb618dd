// Run as a program of its own, to be killed: publishes one result after the other into the store that is named.

import { randomBytes, randomInt } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { type FingerprintKey, fingerprintOf } from '../../../src/runtime/cache/fingerprint.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import { absolutePath, pathIn } from '../../../src/runtime/graph/paths.ts';

const store = new Store(absolutePath(process.argv[2] as string));

for (;;) {
  const key: FingerprintKey = {
    stage: 'test',
    revision: 1,
    attributes: { id: randomBytes(8).toString('hex') },
    inputs: {},
  };
  const fingerprint = fingerprintOf(key);
  const lock = await store.lock(fingerprint);
  const work = await store.workFolder(fingerprint);
  const files = { lora: pathIn(work, 'lora'), metrics: pathIn(work, 'metrics') };
  writeFileSync(files.lora, randomBytes(randomInt(300_000)));
  writeFileSync(files.metrics, randomBytes(100));
  await store.publishEntry(fingerprint, key, files, { from: work });
  await store.removeWork(fingerprint);
  lock.release();
  process.stdout.write('.');
}
