// A disk that is full, made of a small file system in memory. Needs the right to mount one.

import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestOf } from '../../../src/runtime/cache/digest.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import { openLab } from '../../helpers/lab.ts';
import { allNodes, project } from '../../helpers/lab-project.ts';
import { labStages, textStage } from '../../helpers/lab-stages.ts';
import { settle } from '../../helpers/settle.ts';
import { type TemporaryFolder, temporaryFolder } from '../../helpers/temporary-folder.ts';
import { verifyStore } from '../../helpers/verify-store.ts';

let folder: TemporaryFolder;
let isMounted = false;

beforeAll(() => {
  folder = temporaryFolder();
  mkdirSync(folder.at('disk'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder.at('disk')], { stdio: 'ignore' });
    isMounted = true;
  } catch {
    isMounted = false;
  }
});

afterAll(() => {
  if (isMounted) execFileSync('umount', [folder.at('disk')]);
  folder[Symbol.dispose]();
});

function fill(path: string): void {
  expect(() => {
    for (;;) appendFileSync(path, Buffer.alloc(4096));
  }).toThrow('ENOSPC');
}

const decompose = textStage('decompose', ({ lora }) => ({ factors: `${lora}`.padEnd(900_000, '.'), modules: 'all' }));

test('a full disk is named with the store, nothing is lost, and with more room the build goes on', async (context) => {
  if (!isMounted) context.skip('This user cannot mount a file system.');
  writeFileSync(folder.at('disk/ballast'), Buffer.alloc(400_000));
  using lab = await openLab(project, { stages: { ...labStages, decompose }, store: folder.at('disk/store') });
  const run = await lab.run();
  expect(run.finished).toMatchObject({ ok: false, computed: allNodes.slice(0, 4), failed: ['raw:decompose'] });
  expect(run.failures['raw:decompose']).toMatchObject({
    kind: 'out-of-space',
    message: `The disk is full: there is no room left in the store "${folder.at('disk/store')}".`,
    hint: expect.stringContaining('LORAC_STORE'),
  });
  await verifyStore(folder.at('disk/store'));
  // With not a byte left, what is known is still served.
  fill(folder.at('disk/more'));
  expect((await lab.run({ targets: ['raw'] })).finished).toMatchObject({ ok: true, fresh: allNodes.slice(0, 4) });
  // What cannot be noted is found out again next time.
  lab.touch('images/a.png');
  await settle();
  const noted = await lab.run({ targets: ['raw'] });
  expect(noted.finished).toMatchObject({ ok: true, fresh: allNodes.slice(0, 4) });
  expect(noted.messages).toEqual([expect.stringContaining('there is no room left in the store')]);

  rmSync(folder.at('disk/ballast'));
  rmSync(folder.at('disk/more'));
  execFileSync('mount', ['-o', 'remount,size=8m', folder.at('disk')]);
  expect((await lab.run()).finished).toMatchObject({
    ok: true,
    fresh: allNodes.slice(0, 4),
    computed: allNodes.slice(4),
  });
});

test('a full disk where the result is to go leaves the result in the store', async (context) => {
  if (!isMounted) context.skip('This user cannot mount a file system.');
  const save = textStage('save', ({ lora }) => ({ lora: `${lora}`.padEnd(9_000_000, '.') }));
  using lab = await openLab(project, { stages: { ...labStages, save } });
  lab.edit('main.lora', (text) => text.replace('"hero.safetensors"', `"${folder.at('disk/out/hero.safetensors')}"`));
  const run = await lab.run();
  const [failed] = run.finished.failed;
  expect(run.failures[failed as string]).toMatchObject({
    kind: 'out-of-space',
    message: expect.stringContaining('disk/out/hero.safetensors'),
  });
});

test('a place that takes no files is named, and not the result that should go there', async (context) => {
  if (!existsSync('/proc/self')) context.skip('There is no such place here.');
  using lab = await openLab(project);
  lab.edit('main.lora', (text) => text.replace('"hero.safetensors"', '"/proc/hero.safetensors"'));
  const run = await lab.run();
  const [failed] = run.finished.failed;
  expect(run.failures[failed as string]).toMatchObject({
    kind: 'target-not-writable',
    message: '"/proc/hero.safetensors" cannot be written (ENOENT).',
  });
});

/** What is said when something is to be noted in a store there. */
async function saidOf(place: string): Promise<readonly string[]> {
  const warnings: string[] = [];
  const store = new Store(absolutePath(place), { warn: (message) => warnings.push(message) });
  store.history.set('a', digestOf('a'));
  await store.save();
  return warnings;
}

test('a store that cannot be made is named, whatever the reason', async () => {
  writeFileSync(folder.at('a-file'), '');
  const places = [folder.at('a-file'), folder.at('a-file/store'), ...(existsSync('/proc/self') ? ['/proc/store'] : [])];
  for (const place of places) {
    expect(await saidOf(place)).toEqual([expect.stringContaining(`The store "${place}" cannot be written (E`)]);
  }
});

test('a store on a disk that may only be read is named as such', async (context) => {
  if (!isMounted) context.skip('This user cannot mount a file system.');
  const place = folder.at('disk/new/store');
  execFileSync('mount', ['-o', 'remount,ro', folder.at('disk')]);
  try {
    expect(await saidOf(place)).toEqual([expect.stringContaining(`The store "${place}" cannot be written (EROFS).`)]);
  } finally {
    execFileSync('mount', ['-o', 'remount,rw', folder.at('disk')]);
  }
});
