// What lies in `.lorac/runs/BLOCK` is that of the program as it is, also where nothing is computed for it any more.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { parseFingerprint } from '../../../src/runtime/cache/fingerprint.ts';
import { readWhose, writeWhose } from '../../../src/runtime/cache/whose.ts';
import { survives } from '../../helpers/dying-disk.ts';
import { noWorker } from '../../helpers/lab.ts';
import { settle } from '../../helpers/settle.ts';
import { writeLora } from './lora-files.ts';
import { openWorkerLab, type WorkerLab } from './worker-lab.ts';

const program = `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw {
  base = pony  data = hero  steps = 6  save_every = 6  sample = { every = 3  prompts = "prompts.txt" }
  network = locon { dim = 2  alpha = 1  conv_dim = 2  conv_alpha = 1 }
}
`;
const other = program.replace('steps = 6', 'seed = 3  steps = 6');
const prompts = { 'prompts.txt': 'a cat --d 1\na dog --d 2\n' };

/** The files of the block's folder, with what is in them; of the note only that it is there, and nothing of half a one. */
function filesOf(lab: WorkerLab, block = 'raw'): { readonly [name: string]: string } {
  const folder = lab.at(`.lorac/runs/${block}`);
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== 'whose.json.partial',
  );
  return Object.fromEntries(
    names.map(({ name, parentPath }) => [
      join(parentPath, name).slice(folder.length + 1),
      name === 'whose.json' ? '' : readFileSync(join(parentPath, name), 'latin1'),
    ]),
  );
}

async function openBuilt(more = ''): Promise<WorkerLab> {
  const lab = await openWorkerLab(`${program}${more}`, prompts);
  await lab.build();
  return lab;
}

test('going back to a training that is stored brings its pictures, metrics and event files back, and says so', async () => {
  using lab = await openBuilt();
  const first = filesOf(lab);
  expect(Object.keys(first).sort()).toEqual([
    ...['animation.webp', 'events.out.tfevents.0.fake', 'metrics.jsonl', 'montage.png'],
    ...[0, 3, 6].flatMap((step) => [0, 1].map((row) => `samples/00000${step}-0${row}.png`)),
    'whose.json',
  ]);
  lab.write({ 'main.lora': other });
  await lab.build();
  const second = filesOf(lab);
  expect(second['samples/000006-00.png']).not.toBe(first['samples/000006-00.png']);
  expect(second['events.out.tfevents.0.fake']).not.toBe(first['events.out.tfevents.0.fake']);

  const says = '".lorac/runs/raw" shows "raw" as it is now.';
  for (const [text, wanted] of [
    [program, first],
    [other, second],
  ] as const) {
    lab.write({ 'main.lora': text });
    const { finished, messages } = await lab.build({}, { startWorker: noWorker });
    expect(finished.computed).toEqual([]);
    expect(messages).toEqual([says]);
    expect(filesOf(lab)).toEqual(wanted);
  }
});

test('prompts that are as they were before bring their pictures back', async () => {
  using lab = await openBuilt();
  const first = filesOf(lab);
  lab.write({ 'prompts.txt': 'a fox --d 1\n' });
  await settle();
  await lab.build();
  expect(Object.keys(filesOf(lab)).filter((name) => name.endsWith('-01.png'))).toEqual([]);
  lab.write(prompts);
  await settle();
  await lab.build({}, { startWorker: noWorker });
  expect(filesOf(lab)).toEqual(first);
});

test('a build that has nothing to do touches nothing there, and a folder that was deleted is there again', async () => {
  using lab = await openBuilt();
  const times = () =>
    Object.keys(filesOf(lab)).map((name) => statSync(lab.at(`.lorac/runs/raw/${name}`), { bigint: true }).ctimeNs);
  const before = times();
  expect((await lab.build({}, { startWorker: noWorker })).messages).toEqual([]);
  expect(times()).toEqual(before);
  const { 'events.out.tfevents.0.fake': _, ...stored } = filesOf(lab);
  rmSync(lab.at('.lorac/runs'), { recursive: true });
  await lab.build({}, { startWorker: noWorker });
  expect(filesOf(lab)).toEqual(stored);
});

test('without the pictures among its targets, a build leaves none of another training', async () => {
  using lab = await openBuilt('resize small { from = raw  thr = -6 }');
  lab.write({ 'main.lora': other });
  await lab.build();
  lab.write({ 'main.lora': `${program}resize small { from = raw  thr = -6 }` });
  await lab.build({}, { startWorker: noWorker, targets: ['small'] });
  expect(Object.keys(filesOf(lab)).sort()).toEqual(['events.out.tfevents.0.fake', 'metrics.jsonl', 'whose.json']);
});

test('a training that was stopped has its event files when it goes on, whatever was shown meanwhile', async () => {
  using lab = await openBuilt();
  lab.write({ 'main.lora': other });
  const stopped = await lab.build({ DIE_AT_STEP: '4' });
  expect(stopped.statuses.raw).toBe('failed');
  const half = filesOf(lab)['events.out.tfevents.0.fake'];
  lab.write({ 'main.lora': program });
  await lab.build({}, { startWorker: noWorker });
  expect(filesOf(lab)['events.out.tfevents.0.fake']).not.toBe(half);
  lab.write({ 'main.lora': other });
  await lab.build();
  const files = filesOf(lab);
  expect(files['events.out.tfevents.0.fake']).toBe(half);
  expect(Object.keys(files).filter((name) => name.startsWith('events.out'))).toHaveLength(2);
});

test('a folder that another process is training into is left to it, and is this one as soon as that is over', async () => {
  using lab = await openBuilt();
  lab.write({ 'main.lora': other });
  await lab.build();
  const { training } = await readWhose(lab.at('.lorac/runs/raw'));
  const lock = await lab.store().lock(parseFingerprint(training) as never);
  const shown = filesOf(lab);
  lab.write({ 'main.lora': program });
  const { messages, finished } = await lab.build({}, { startWorker: noWorker });
  expect(finished.ok).toBe(true);
  expect(messages).toEqual([
    `"${lab.at('.lorac/runs/raw')}" shows another training of that name, which goes on just now.`,
  ]);
  expect(filesOf(lab)).toEqual(shown);
  lock.release();
  await lab.build({}, { startWorker: noWorker });
  expect(filesOf(lab)).not.toEqual(shown);
});

test('a training whose folder another one takes puts nothing there until it is done, and then all', async () => {
  using quiet = await openBuilt();
  using lab = await openWorkerLab(program, prompts);
  const folder = lab.at('.lorac/runs/raw');
  let after: string[] | undefined;
  await lab.build(
    { DELAY_MS: '20' },
    {
      onEvent: (event) => {
        if (event.type !== 'node-progress' || event.node !== 'raw') return;
        const { progress } = event;
        if (progress.type === 'step' && progress.step === 1) {
          rmSync(join(folder, 'samples'), { recursive: true });
          writeWhose(folder, { training: parseFingerprint('a'.repeat(64)), whole: {} });
        }
        if (progress.type === 'step' && progress.step === 6) after = readdirSync(folder);
      },
    },
  );
  expect(after).not.toContain('samples');
  const { 'events.out.tfevents.0.fake': _, ...copies } = filesOf(quiet);
  expect(filesOf(lab)).toEqual(copies);
});

test('what cannot be laid out is told, and fails nothing', async () => {
  using lab = await openBuilt();
  rmSync(lab.at('.lorac/runs'), { recursive: true });
  lab.write({ '.lorac/runs': 'no folder' });
  const { finished, messages } = await lab.build({}, { startWorker: noWorker });
  expect(finished.ok).toBe(true);
  expect(messages.length).toBeGreaterThan(0);
  expect(messages.every((message) => message.includes(lab.at('.lorac/runs/raw')))).toBe(true);
});

test('previews and analyses are shown as they are, too', async () => {
  using lab = await openWorkerLab(
    `
    checkpoint pony { path = "pony.safetensors" }
    lora hero { path = "hero.safetensors"  base = pony }
    preview grid { loras = [hero]  prompts = "prompts.txt" }
    analyze what { from = hero  prompts = "prompts.txt"  share = 0.6 }
    `,
    prompts,
  );
  await writeLora(lab.at('hero.safetensors'));
  await settle();
  await lab.build();
  const first = { grid: filesOf(lab, 'grid'), what: filesOf(lab, 'what') };
  expect(Object.keys(first.grid)).toHaveLength(4 + 2);
  // The second one comes as far as its pictures.
  for (const [text, knobs] of [
    ['a fox --d 3\n', {}],
    ['an owl --d 4\n', { FAIL: 'grid:out-of-memory' }],
  ] as const) {
    lab.write({ 'prompts.txt': text });
    await settle();
    await lab.build(knobs);
    expect(filesOf(lab, 'grid')['pictures/00-01-hero.png']).not.toBe(first.grid['pictures/00-01-hero.png']);
    lab.write(prompts);
    await settle();
    const { finished } = await lab.build({}, { startWorker: noWorker });
    expect(finished.computed).toEqual([]);
    expect({ grid: filesOf(lab, 'grid'), what: filesOf(lab, 'what') }).toEqual(first);
  }
  lab.edit('main.lora', (text) => text.replace('prompts = "prompts.txt"  share', 'share'));
  await lab.build();
  expect(Object.keys(filesOf(lab, 'what')).sort()).toEqual(['report.txt', 'whose.json']);
});

async function openBoth(second: string) {
  const lab = await openBuilt();
  const first = filesOf(lab);
  lab.write({ 'other.lora': second, 'foxes.txt': 'a fox --d 1\n' });
  await lab.build({}, { program: 'other.lora' });
  const wanted = { 'main.lora': first, 'other.lora': filesOf(lab) };
  return Object.assign(lab, {
    /** Builds what is stored, after which the folder has to be as it was when it was made. */
    async show(program: keyof typeof wanted) {
      await lab.build({}, { program, startWorker: noWorker });
      expect(filesOf(lab)).toEqual(wanted[program]);
    },
  });
}

test.each([
  ['training', other],
  ['prompt', program.replace('prompts.txt', 'foxes.txt')],
])(
  'whenever it is killed, nothing is taken for that of another %s afterwards, and no event file is lost',
  async (_, second) => {
    using lab = await openBoth(second);
    for (let at = 1; ; at += 1) {
      const isDone = await survives(at, () => lab.build({}, { program: 'main.lora', startWorker: noWorker }));
      if (isDone) {
        expect(at).toBeGreaterThan(20);
        break;
      }
      // Now the one that is there by half, now the one that is not there any more.
      if (at % 2 === 0) await lab.show('main.lora');
      await lab.show('other.lora');
    }
  },
);

test('kill -9 of a process in between costs nothing either', async () => {
  using lab = await openBoth(other);
  const script = join(import.meta.dirname, 'show-forever.ts');
  for (let round = 0; round < 3; round += 1) {
    const child = spawn(process.execPath, [script, lab.folder, 'main.lora', 'other.lora'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    await sleep(Math.random() * 150);
    child.kill('SIGKILL');
    await once(child, 'close');
    await lab.show(round % 2 === 0 ? 'main.lora' : 'other.lora');
    await lab.show(round % 2 === 0 ? 'other.lora' : 'main.lora');
  }
});
