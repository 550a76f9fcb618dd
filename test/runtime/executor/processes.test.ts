// Builds in processes of their own, on one store.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { openLab } from '../../helpers/lab.ts';
import { allNodes, project } from '../../helpers/lab-project.ts';
import { type TemporaryFolder, temporaryFolder } from '../../helpers/temporary-folder.ts';
import { verifyStore } from '../../helpers/verify-store.ts';

interface Built {
  readonly pid: number;
  readonly ok: boolean;
  readonly computed: readonly string[];
  readonly fresh: readonly string[];
  readonly messages: readonly string[];
}

function start(folder: TemporaryFolder) {
  const script = join(import.meta.dirname, 'build-once.ts');
  return spawn(process.execPath, [script, folder.path], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function build(folder: TemporaryFolder): Promise<Built> {
  return JSON.parse(await text(start(folder).stdout));
}

test('two builds at once compute everything once, and one says for whom it waits', async () => {
  using folder = temporaryFolder();
  folder.write(project);
  const [one, two] = await Promise.all([build(folder), build(folder)]);
  expect([one.ok, two.ok]).toEqual([true, true]);
  const computed = [...one.computed, ...two.computed].filter((node) => node !== 'hero.safetensors');
  expect(computed.toSorted()).toEqual(allNodes.slice(0, -1).toSorted());
  const [winner, loser] = one.computed.includes('raw') ? [one, two] : [two, one];
  expect(loser.messages).toContain(`Process ${winner.pid} is computing "raw" already. Waiting for it.`);
});

test('builds that are killed at random moments end with the result of one that was not', async () => {
  using quiet = temporaryFolder();
  quiet.write(project);
  await build(quiet);
  using folder = temporaryFolder();
  folder.write(project);
  for (let round = 0; round < 6; round += 1) {
    const child = start(folder);
    const closed = once(child.stdout.resume(), 'close');
    await sleep(150 + Math.random() * 700);
    child.kill('SIGKILL');
    await closed;
    await verifyStore(folder.at('.lorac'));
  }
  const last = await build(folder);
  expect(last.ok).toBe(true);
  expect(readFileSync(folder.at('hero.safetensors'), 'utf8')).toBe(readFileSync(quiet.at('hero.safetensors'), 'utf8'));
  using lab = await openLab({}, { folder });
  expect((await lab.run()).finished.computed).toEqual([]);
});
