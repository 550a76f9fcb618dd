// What a change makes run again, and what it leaves alone.

import { cpSync, renameSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Lab, noWorker, openLab, outputOf } from '../../helpers/lab.ts';
import { allNodes, program, project } from '../../helpers/lab-project.ts';
import { latentsStage } from '../../helpers/lab-stages.ts';
import { pngOf } from '../../helpers/pictures.ts';
import { settle } from '../../helpers/settle.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

async function builtLab(options: Parameters<typeof openLab>[1] = {}): Promise<Lab> {
  const lab = await openLab(project, options);
  const first = await lab.run();
  expect(first.finished).toMatchObject({ ok: true, fresh: [], computed: allNodes });
  await settle();
  return lab;
}

/** Runs, and expects that just these nodes are computed; everything else must be fresh. */
async function expectComputed(lab: Lab, computed: readonly string[]) {
  const run = await lab.run({ startWorker: noWorker });
  expect(run.finished).toMatchObject({ ok: true, computed, failed: [], skipped: [] });
  expect(run.finished.fresh).toHaveLength(allNodes.length - computed.length);
  return run;
}

/** All that follows when a training gives other weights. The norms of the checkpoint do not: its modules are the same. */
const fromTraining = ['raw:decompose', 'small', 'tiny', 'hero.safetensors'];

test('the first build computes everything, since nothing was ever built', async () => {
  using lab = await openLab(project);
  const run = await lab.run();
  expect(run.finished).toMatchObject({ ok: true, computed: allNodes });
  expect(new Set(Object.values(run.reasons).map(({ kind }) => kind))).toEqual(new Set(['never-built']));
  expect(lab.read('hero.safetensors')).toMatch(/^hero: chop/);
});

test('building again computes nothing', async () => {
  using lab = await builtLab();
  await expectComputed(lab, []);
});

test('programs that import the same blocks have histories of their own, and are called by their own files', async () => {
  using lab = await openLab({
    ...project,
    'shared.lora': 'checkpoint pony { path = "pony.safetensors" }  dataset hero { images = "images" }',
    'one.lora': 'import "shared.lora"  train raw { base = pony  data = hero  steps = 1 }',
    'two.lora': 'import "shared.lora"  train raw { base = pony  data = hero  steps = 2 }',
  });
  await lab.run({ program: 'one.lora' });
  const two = await lab.run({ program: 'two.lora' });
  expect(two.events[0]).toMatchObject({ type: 'run-started', program: lab.at('two.lora') });
  expect(two.reasons.raw).toEqual({ kind: 'never-built' });
});

test('comments, order and spelling out a default change nothing', async () => {
  using lab = await builtLab();
  lab.edit('main.lora', (text) => {
    const [, , ...blocks] = text.trim().split('\n');
    return `// another comment\n${blocks.toReversed().join('\n\n')}\n${text.trim().split('\n')[1]}`;
  });
  await expectComputed(lab, []);
  lab.edit('main.lora', (text) => text.replace('steps = 40', 'steps = 4_0  seed = 0  unet_lr = 0.0003'));
  await expectComputed(lab, []);
});

test('touching files and renaming images change nothing', async () => {
  using lab = await builtLab();
  for (const name of Object.keys(project)) lab.touch(name);
  await expectComputed(lab, []);
  renameSync(lab.at('images/a.png'), lab.at('images/z.png'));
  renameSync(lab.at('images/a.txt'), lab.at('images/z.txt'));
  await expectComputed(lab, []);
});

test('a moved project keeps its cache, and so does a copied one', async () => {
  using elsewhere = temporaryFolder();
  using lab = await builtLab();
  renameSync(lab.folder, elsewhere.at('moved'));
  const moved = { path: elsewhere.at('moved'), at: (name: string) => elsewhere.at(`moved/${name}`), write: () => {} };
  using again = await openLab({}, { folder: { ...moved, [Symbol.dispose]: () => {} } });
  await expectComputed(again, []);
  cpSync(moved.path, elsewhere.at('copied'), { recursive: true });
  const copied = {
    path: elsewhere.at('copied'),
    at: (name: string) => elsewhere.at(`copied/${name}`),
    write: () => {},
  };
  using third = await openLab({}, { folder: { ...copied, [Symbol.dispose]: () => {} } });
  await expectComputed(third, []);
});

test('another threshold resizes, and does again what is made from it', async () => {
  using lab = await builtLab();
  lab.edit('main.lora', (text) => text.replace('-3.55', '-2.0'));
  const run = await expectComputed(lab, ['small', 'tiny', 'hero.safetensors']);
  expect(run.reasons).toEqual({
    small: { kind: 'attribute-changed', attribute: 'thr', from: '-3.55', to: '-2' },
    tiny: { kind: 'input-changed', input: 'small' },
    'hero.safetensors': { kind: 'input-changed', input: 'tiny' },
  });
});

test('a result that comes out the same stops the wave', async () => {
  using lab = await builtLab();
  lab.edit('main.lora', (text) => text.replace('-3.55', '-3.6'));
  await expectComputed(lab, ['small']);
});

test('going back to what was built before computes nothing', async () => {
  using lab = await builtLab();
  lab.edit('main.lora', (text) => text.replace('-3.55', '-2.0'));
  await lab.run();
  lab.edit('main.lora', () => program);
  const run = await lab.run();
  // The file still has to be put back.
  expect(run.finished.computed).toEqual(['hero.safetensors']);
  expect(run.reasons['hero.safetensors']).toMatchObject({ kind: 'not-placed' });
  expect(lab.read('hero.safetensors')).toContain('-4');
});

test('an edited caption trains again and encodes nothing', async () => {
  using lab = await builtLab();
  lab.write({ 'images/a.txt': 'a cat, sleeping' });
  const run = await expectComputed(lab, ['hero:manifest', 'raw', ...fromTraining]);
  expect(run.reasons).toMatchObject({
    'hero:manifest': { kind: 'input-changed', input: 'captions' },
    raw: { kind: 'input-changed', input: 'hero:manifest.captions' },
  });
});

test('a new image is encoded, and only that one', async () => {
  const encoded: string[] = [];
  using lab = await builtLab({ stages: { latents: latentsStage((path) => encoded.push(path)) } });
  encoded.length = 0;
  lab.write({ 'images/c.png': pngOf({ width: 300, height: 500, shade: 3 }), 'images/c.txt': 'a horse' });
  const run = await expectComputed(lab, ['hero:manifest', 'raw:latents', 'raw', ...fromTraining]);
  expect(encoded).toEqual([lab.at('images/c.png')]);
  expect(run.reasons['raw:latents']).toEqual({ kind: 'input-changed', input: 'hero:manifest' });
});

test('a change of the checkpoint that leaves its VAE alone encodes nothing', async () => {
  using lab = await builtLab();
  lab.edit('pony.safetensors', (text) => `${text}, retrained`);
  const run = await expectComputed(
    lab,
    allNodes.filter((node) => node !== 'hero:manifest' && node !== 'raw:latents'),
  );
  expect(run.reasons.pony).toEqual({ kind: 'input-changed', input: lab.at('pony.safetensors') });
});

test('how often training saves and samples does not train again', async () => {
  using lab = await builtLab();
  lab.edit('main.lora', (text) =>
    text.replace(
      'steps = 40',
      'steps = 40  save_every = 4  state_every = 3  gradient_checkpointing = on  blocks_to_swap = 9  compile = true  vram = 8GB  launch = torchrun',
    ),
  );
  await expectComputed(lab, []);
  lab.write({ 'prompts.txt': 'a cat' });
  lab.edit('main.lora', (text) => text.replace('save_every = 4', 'sample = { prompts = "prompts.txt"  every = 10 }'));
  const run = await lab.run();
  expect(run.finished.computed).toEqual(['raw:samples']);
  expect(await outputOf(lab, 'raw:samples', 'samples')).toBe('checkpoint,lora,prompts,step.10,step.20,step.30');
  lab.write({ 'prompts.txt': 'a dog' });
  const again = await lab.run();
  expect(again.reasons).toEqual({ 'raw:samples': { kind: 'input-changed', input: lab.at('prompts.txt') } });
});

test('metrics never disturb what is made from the LoRA', async () => {
  using lab = await builtLab();
  const metrics = await outputOf(lab, 'raw', 'metrics');
  const run = await lab.run({ rerun: ['raw'] });
  expect(run.finished.computed).toEqual(['raw']);
  expect(run.reasons).toEqual({ raw: { kind: 'asked-for' } });
  expect(await outputOf(lab, 'raw', 'metrics')).not.toBe(metrics);
  // What was asked for once more is what counts from now on.
  const second = await outputOf(lab, 'raw', 'metrics');
  await expectComputed(lab, []);
  expect(await outputOf(lab, 'raw', 'metrics')).toBe(second);
});

test('a reason names the setting inside a record', async () => {
  using lab = await builtLab();
  lab.edit('main.lora', (text) => text.replace('steps = 40', 'steps = 40  optimizer = SAVEUS { eps = 1e-6 }'));
  const run = await lab.run();
  expect(run.reasons.raw).toEqual({
    kind: 'attribute-changed',
    attribute: 'optimizer.eps',
    from: '1e-8',
    to: '0.000001',
  });
});

test('only the targets and what they need are looked at', async () => {
  using lab = await openLab(project);
  const run = await lab.run({ targets: ['small'] });
  expect(run.finished.computed).toEqual(allNodes.slice(0, 7));
  expect((await lab.run({ targets: ['raw:latents'] })).finished.fresh).toEqual([
    'pony',
    'hero:manifest',
    'raw:latents',
  ]);
});

test('a raised revision runs the stage again', async () => {
  using lab = await builtLab();
  const { labStages } = await import('../../helpers/lab-stages.ts');
  const folder = { path: lab.folder, at: lab.at, write: lab.write, [Symbol.dispose]: () => {} };
  using newer = await openLab({}, { folder, stages: { chop: { ...labStages.chop, revision: 2 } } });
  const run = await newer.run();
  expect(run.finished.computed).toEqual(['tiny']);
  expect(run.reasons.tiny).toEqual({ kind: 'revision-changed', stage: 'chop' });
});

test('two blocks that say the same are computed once', async () => {
  using lab = await openLab(project);
  lab.edit('main.lora', (text) => `${text}\nresize same { from = raw  thr = -3.550 }`);
  const run = await lab.run();
  const both = [run.statuses.small, run.statuses.same].toSorted();
  expect(both).toEqual(['computed', 'fresh']);
  expect(run.messages).toEqual([]);
});
