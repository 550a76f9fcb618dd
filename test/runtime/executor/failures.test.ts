// When something goes wrong: what goes on, what is said, and what is kept.

import { existsSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { digestOf } from '../../../src/runtime/cache/digest.ts';
import { StageFailure } from '../../../src/runtime/events.ts';
import { pathIn } from '../../../src/runtime/graph/paths.ts';
import type { Stage } from '../../../src/runtime/stage.ts';
import { type Lab, openLab, outputOf } from '../../helpers/lab.ts';
import { allNodes, project } from '../../helpers/lab-project.ts';
import { labStages, latentsStage, textStage } from '../../helpers/lab-stages.ts';
import { pngOf } from '../../helpers/pictures.ts';

const branches = `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw { base = pony  data = hero  steps = 40 }
resize small { from = raw }
resize tight { from = raw  thr = 0 }
chop tiny { from = small  keep = [OUT01] }
save "hero.safetensors" { from = tiny }
save "tight.safetensors" { from = tight }
`;

const failing = textStage('resize', (_, { node }) => {
  if (node.id !== 'small') return { lora: `resized to ${node.attributes.thr}` };
  throw new StageFailure({ kind: 'bad-input', message: 'This one fails.' });
});

test('what depends on a failed node is skipped and names it; everything else goes on', async () => {
  using lab = await openLab({ ...project, 'main.lora': branches }, { stages: { resize: failing } });
  const run = await lab.run();
  expect(run.finished).toMatchObject({
    ok: false,
    interrupted: false,
    failed: ['small'],
    skipped: ['tiny', 'hero.safetensors'],
  });
  expect(run.finished.computed).toContain('tight.safetensors');
  expect(run.failures.small).toMatchObject({ kind: 'bad-input', message: 'This one fails.' });
  const skipped = run.events.filter((event) => event.type === 'node-skipped');
  expect(skipped.map(({ cause }) => cause)).toEqual(['small', 'small']);
  const failed = run.events.find((event) => event.type === 'node-failed');
  expect(failed?.origin).toEqual({ path: lab.at('main.lora'), line: 5, column: 1 });
});

test('a failed node runs again next time, and what was done stays done', async () => {
  let isBroken = true;
  const chop: Stage = {
    ...labStages.chop,
    run: (context) => {
      if (isBroken) throw new StageFailure({ kind: 'bad-input', message: 'Not today.' });
      return labStages.chop.run(context);
    },
  };
  using lab = await openLab(project, { stages: { chop } });
  expect((await lab.run()).finished).toMatchObject({ ok: false, failed: ['tiny'], skipped: ['hero.safetensors'] });
  isBroken = false;
  const run = await lab.run();
  expect(run.finished).toMatchObject({ ok: true, computed: ['tiny', 'hero.safetensors'] });
  expect(run.reasons.tiny).toEqual({ kind: 'never-built' });
});

test('all that is wrong with the images is told before anything is trained', async () => {
  using lab = await openLab({ ...project, 'images/bad.png': 'no image', 'images/worse.jpg': '' });
  const run = await lab.run();
  expect(run.finished).toMatchObject({
    ok: false,
    computed: ['pony'],
    failed: ['hero:manifest'],
    skipped: allNodes.slice(2),
  });
  expect(run.failures['hero:manifest']?.problems).toHaveLength(4);
});

test('where small images are not enlarged, those that no bucket fits are named before anything is trained', async () => {
  const files = { 'images/thin.png': pngOf({ width: 20, height: 500 }), 'images/thin.txt': 'thin' };
  const keeping = project['main.lora'].replace('"images" }', '"images"  bucket = { upscale = false } }');
  using lab = await openLab({ ...project, ...files, 'main.lora': keeping });
  const run = await lab.run();
  expect(run.failures['hero:manifest']).toMatchObject({
    message: 'The dataset "hero" has an image too small for its buckets.',
    problems: [{ path: lab.at('images/thin.png'), message: expect.stringContaining('20x500 pixels') }],
  });
  lab.write({ 'main.lora': project['main.lora'] });
  expect((await lab.run()).finished.ok).toBe(true);
});

test('a missing file is named', async () => {
  using lab = await openLab(project);
  lab.remove('pony.safetensors');
  const run = await lab.run();
  expect(run.failures.pony).toMatchObject({
    kind: 'missing-file',
    message: `"pony" needs the file "${lab.at('pony.safetensors')}", and there is no such file.`,
  });
  expect(run.finished.computed).toEqual(['hero:manifest']);
});

test('a mistake of ours is thrown, after what runs has been stopped and kept', async () => {
  const decompose = textStage('decompose', () => {
    throw new Error('Internal error: this is ours.');
  });
  using lab = await openLab(project, { stages: { decompose } });
  await expect(lab.run()).rejects.toThrow('Internal error: this is ours.');
  using again = await openLab(
    {},
    { folder: { path: lab.folder, at: lab.at, write: lab.write, [Symbol.dispose]() {} } },
  );
  expect((await again.run()).finished.fresh).toEqual(['pony', 'hero:manifest', 'raw:latents', 'raw']);
});

test('the work folder of a failed node is there for the next attempt, and gone after a success', async () => {
  const attempts: string[] = [];
  const train: Stage = {
    ...labStages.train,
    async run(context) {
      const state = pathIn(context.work, 'state');
      attempts.push(existsSync(state) ? await readFile(state, 'utf8') : 'from the start');
      if (attempts.length === 2) return labStages.train.run(context);
      await writeFile(state, 'half-way');
      throw new StageFailure({ kind: 'out-of-memory', message: 'The GPU is full.' });
    },
  };
  using lab = await openLab(project, { stages: { train } });
  await lab.run();
  expect((await lab.run()).finished.ok).toBe(true);
  expect(attempts).toEqual(['from the start', 'half-way']);
  expect(readdirSync(lab.at('.lorac/work'))).toEqual([]);
  expect(readdirSync(lab.at('.lorac/locks'))).toEqual([]);
});

/** A training that goes on until it is stopped, or until it has made all its steps. */
function longTraining(steps: number): Stage {
  return {
    ...labStages.train,
    async run(context) {
      const state = pathIn(context.work, 'state');
      let step = existsSync(state) ? Number(await readFile(state, 'utf8')) : 0;
      context.report({ type: 'progress', done: step, total: steps, unit: 'steps' });
      for (; step < steps; step += 1) {
        if (context.signal.aborted) {
          await writeFile(state, `${step}`);
          throw new StageFailure({ kind: 'cancelled', message: 'Stopped.' });
        }
        await sleep(5);
      }
      return labStages.train.run(context);
    },
  };
}

test('a stopped run saves its state, starts nothing else, and the next goes on from there', async () => {
  using lab = await openLab(project, { stages: { train: longTraining(60) } });
  const stop = new AbortController();
  const run = await lab.run({
    signal: stop.signal,
    onEvent: (event) => {
      if (event.type === 'node-started' && event.node === 'raw') setTimeout(() => stop.abort(), 60);
    },
  });
  expect(run.finished).toMatchObject({ ok: false, interrupted: true, failed: [], skipped: [] });
  expect(run.events.filter(({ type }) => type === 'stopping')).toHaveLength(1);
  expect(run.statuses).toMatchObject({ raw: 'stopped' });
  expect(run.statuses.small).toBeUndefined();
  const again = await lab.run();
  const progress = again.events.find((event) => event.type === 'node-progress' && event.node === 'raw');
  expect(progress).toMatchObject({ progress: { done: expect.toSatisfy((done: number) => done > 0) } });
  expect(again.finished.ok).toBe(true);
});

test('a run that is stopped before it begins does nothing', async () => {
  using lab = await openLab(project);
  const run = await lab.run({ signal: AbortSignal.abort() });
  expect(run.finished).toMatchObject({ ok: false, interrupted: true, computed: [], fresh: [], failed: [] });
});

function blobsOf(lab: Lab): readonly string[] {
  const cas = lab.at('.lorac/cas');
  return readdirSync(cas, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

test('bytes that are lost or cut short are computed again, never served', async () => {
  using lab = await openLab(project);
  await lab.run();
  const before = lab.read('hero.safetensors');
  const [lost, cut] = blobsOf(lab).filter((path) => !path.includes('.tmp'));
  rmSync(lost as string);
  truncateSync(cut as string, 1);
  const run = await lab.run();
  expect(run.finished.ok).toBe(true);
  expect(run.finished.computed.length).toBeGreaterThan(0);
  for (const node of run.finished.computed)
    expect(run.reasons[node]?.kind).toMatch(/^(result-lost|not-placed|input-changed)$/);
  expect(lab.read('hero.safetensors')).toBe(before);
  expect((await lab.run()).finished.computed).toEqual([]);
});

test('a stored result that a failed node read is read again, and when it is damaged the next build makes it anew', async () => {
  const decompose = textStage('decompose', ({ lora }) => {
    if (lora?.startsWith('train')) return { factors: 'factors', modules: 'all' };
    throw new StageFailure({ kind: 'bad-input', message: 'This is no LoRA.' });
  });
  using lab = await openLab(project, { stages: { ...labStages, decompose } });
  await lab.run({ targets: ['raw'] });
  const lora = await outputOf(lab, 'raw', 'lora');
  writeFileSync(lab.store().blobPath(digestOf(lora)), 'x'.repeat(lora.length));
  const run = await lab.run();
  expect(run.failures['raw:decompose']).toMatchObject({
    kind: 'store-damaged',
    message: expect.stringContaining(lab.at('.lorac')),
  });
  const again = await lab.run();
  expect(again.finished).toMatchObject({ ok: true });
  expect(again.reasons.raw).toEqual({ kind: 'result-lost', output: 'lora' });
});

test('a store that is deleted under a stage is what the failure is about', async () => {
  const decompose = textStage('decompose', (_, { store }) => {
    rmSync(store.folder, { recursive: true });
    return { factors: 'factors', modules: 'all' };
  });
  using lab = await openLab(project, { stages: { ...labStages, decompose } });
  const run = await lab.run();
  expect(run.failures['raw:decompose']).toMatchObject({
    kind: 'store-gone',
    message: `The store "${lab.at('.lorac')}" was deleted while "raw:decompose" was working in it.`,
  });
});

test('latents that are lost are encoded again when a training needs them, and not before', async () => {
  const encoded: string[] = [];
  using lab = await openLab(project, { stages: { latents: latentsStage((path) => encoded.push(path)) } });
  await lab.run();
  encoded.length = 0;
  for (const path of blobsOf(lab)) {
    if ((await readFile(path, 'utf8')).startsWith('latents of')) rmSync(path);
  }
  expect((await lab.run()).finished.computed).toEqual([]);
  lab.edit('main.lora', (text) => text.replace('steps = 40', 'steps = 50'));
  const run = await lab.run();
  expect(run.reasons['raw:latents']).toEqual({ kind: 'result-lost', output: 'latents' });
  expect(encoded).toHaveLength(2);
  expect(run.finished.ok).toBe(true);
});

test('damaged entries and damaged notes count as missing, with a warning', async () => {
  using lab = await openLab(project);
  await lab.run();
  for (const entry of readdirSync(lab.at('.lorac/ac'), { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) writeFileSync(join(entry.parentPath, entry.name), '{"version":1,"key":');
  }
  for (const name of readdirSync(lab.at('.lorac/mutable'))) writeFileSync(lab.at(`.lorac/mutable/${name}`), '[]');
  const run = await lab.run();
  expect(run.finished).toMatchObject({ ok: true, computed: allNodes });
  expect(run.messages.filter((message) => message.includes('damaged')).length).toBeGreaterThan(allNodes.length);
});

test('at most one node at a time is on the GPU', async () => {
  let running = 0;
  let most = 0;
  const decompose = textStage(
    'decompose',
    async ({ lora }) => {
      running += 1;
      most = Math.max(most, running);
      await sleep(20);
      running -= 1;
      return { factors: `factors of ${lora}`, modules: 'all' };
    },
    { pool: 'gpu' },
  );
  const trainings = ['a', 'b', 'c'].map(
    (name) =>
      `train ${name} { base = pony  data = hero  seed = ${name.charCodeAt(0)} }\nresize s${name} { from = ${name} }`,
  );
  const text = `checkpoint pony { path = "pony.safetensors" }\ndataset hero { images = "images" }\n${trainings.join('\n')}`;
  using lab = await openLab({ ...project, 'main.lora': text }, { stages: { decompose } });
  const run = await lab.run();
  expect(run.finished.ok).toBe(true);
  expect(most).toBe(1);
  expect(
    (await lab.run({ rerun: ['a:decompose', 'b:decompose', 'c:decompose'], concurrency: { gpu: 3 } })).finished.ok,
  ).toBe(true);
  expect(most).toBe(3);
});
