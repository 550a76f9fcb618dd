// A store that is killed at any moment serves nothing half-written, loses nothing that was published,
// and keeps nobody waiting.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type FingerprintKey, fingerprintOf, parseFingerprint } from '../../../src/runtime/cache/fingerprint.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { verifyStore } from '../../helpers/verify-store.ts';

function start(script: string, ...args: string[]) {
  const path = join(import.meta.dirname, script);
  return spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

test('killed at random moments, twelve times', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  let published = 0;
  for (let round = 0; round < 12; round += 1) {
    const child = start('publish-forever.ts', store.folder);
    let dots = 0;
    child.stdout.on('data', (data: Buffer) => {
      dots += data.length;
    });
    await once(child.stdout, 'data');
    await sleep(Math.random() * 40);
    child.kill('SIGKILL');
    await once(child, 'close');
    published += dots;
    const entries = await verifyStore(store.folder);
    // What the child had told of is there; it may have done one more.
    expect(entries.length).toBeGreaterThanOrEqual(published);

    for (const name of readdirSync(folder.at('.lorac/work'))) {
      const fingerprint = parseFingerprint(name);
      if (fingerprint) await store.finishPublish(fingerprint);
    }
    await store.tidy();
    published = (await verifyStore(store.folder)).length;
  }
});

const key: FingerprintKey = { stage: 'test', revision: 1, attributes: {}, inputs: {} };
const fingerprint = fingerprintOf(key);

test('whoever waits for a lock hears who has it, and gets it when that process is killed', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  const child = start('hold-lock.ts', store.folder, fingerprint);
  await once(child.stdout, 'data');
  const holders: (number | undefined)[] = [];
  const waiting = store.lock(fingerprint, { onWait: (holder) => holders.push(holder) });
  await sleep(250);
  expect(holders).toEqual([child.pid]);
  child.kill('SIGKILL');
  (await waiting).release();
  await (await store.lock(fingerprint)).release();
});

test('waiting for a lock can be given up', async () => {
  using folder = temporaryFolder();
  const store = new Store(folder.at('.lorac'));
  const lock = await store.lock(fingerprint);
  const waiting = store.lock(fingerprint, { signal: AbortSignal.timeout(50) });
  await expect(waiting).rejects.toThrow(/abort|timeout/i);
  lock.release();
});

test('only one at a time holds a lock, however many want it', async () => {
  using folder = temporaryFolder();
  let holding = 0;
  let turns = 0;
  const turn = async () => {
    const lock = await new Store(folder.at('.lorac')).lock(fingerprint);
    holding += 1;
    expect(holding).toBe(1);
    await sleep(1);
    holding -= 1;
    turns += 1;
    lock.release();
  };
  await Promise.all(Array.from({ length: 8 }, turn));
  expect(turns).toBe(8);
  expect(readdirSync(folder.at('.lorac/locks'))).toEqual([]);
});
