// The stages that the worker does, from the outside: what is asked of it, what is stored, what is never done twice.

import { copyFileSync, existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { expect, test } from 'vitest';
import { writeEntry } from '../../../src/runtime/cache/entry.ts';
import { noWorker, outputOf } from '../../helpers/lab.ts';
import { pngOf } from '../../helpers/pictures.ts';
import { settle } from '../../helpers/settle.ts';
import { openWorkerLab, type WorkerLab } from './worker-lab.ts';

const program = `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw {
  base = pony  data = hero  steps = 6  save_every = 2
  network = locon { dim = 2  alpha = 1  conv_dim = 2  conv_alpha = 1 }
}
resize small { from = raw  thr = -6 }
chop tiny { from = small  keep = [OUT01] }
save "hero.safetensors" { from = tiny }
`;

const withSamples = program.replace(
  'save_every = 2',
  'save_every = 6  sample = { every = 3  prompts = "prompts.txt" }',
);
const prompts = 'a cat --d 1\na dog --n blurry --w 640 --d 2\n';

function pictures(lab: WorkerLab): string[] {
  return readdirSync(lab.at('.lorac/runs/raw/samples')).sort();
}

test('a program is built from images to a saved LoRA, and then nothing is left to do', async () => {
  using lab = await openWorkerLab(program);
  const first = await lab.build();
  expect(first.finished).toMatchObject({ ok: true });
  expect(first.asked).toEqual([
    { op: 'encode_latents', items: 6 },
    { op: 'train' },
    { op: 'decompose' },
    { op: 'frobenius' },
  ]);
  expect(existsSync(lab.at('hero.safetensors'))).toBe(true);
  const again = await lab.build({}, { startWorker: noWorker });
  expect(new Set(Object.values(again.statuses))).toEqual(new Set(['fresh']));
});

test('a changed caption trains again, and encodes no image', async () => {
  using lab = await openWorkerLab(program);
  await lab.build();
  lab.write({ 'images/one.txt': 'another caption' });
  await settle();
  const { asked, statuses } = await lab.build();
  expect(asked.map(({ op }) => op)).toEqual(['train', 'decompose', 'frobenius'].slice(0, asked.length));
  expect(statuses).toMatchObject({ 'raw:latents': 'fresh', raw: 'computed' });
});

test('a changed setting of captions trains again, and encodes no image', async () => {
  using lab = await openWorkerLab(program);
  await lab.build();
  const captions = 'keep_tokens = 1  caption_dropout_rate = 0.1  wildcards = true  caption_missing = empty';
  lab.write({ 'main.lora': program.replace('"images" }', `"images"  ${captions} }`) });
  const { asked, statuses } = await lab.build();
  expect(asked[0]?.op).toBe('train');
  expect(statuses).toMatchObject({ 'raw:latents': 'fresh', raw: 'computed' });
});

test('a folder with another number trains again, and encodes no image', async () => {
  const folders = program.replace('"images" }', '"images"  folders = kohya  caption_missing = folder }');
  using lab = await openWorkerLab(folders);
  lab.write({ 'images/2_fox/a.png': pngOf({ width: 900, height: 900, shade: 9 }) });
  expect((await lab.build()).asked.slice(0, 2)).toEqual([{ op: 'encode_latents', items: 2 }, { op: 'train' }]);
  renameSync(lab.at('images/2_fox'), lab.at('images/3_fox'));
  const { asked, statuses } = await lab.build();
  expect(asked[0]?.op).toBe('train');
  expect(statuses.raw).toBe('computed');
});

test('an image that is added is the only one to be encoded', async () => {
  using lab = await openWorkerLab(program);
  await lab.build();
  lab.write({ 'images/new.png': pngOf({ width: 900, height: 900, shade: 9 }), 'images/new.txt': 'new' });
  await settle();
  const { asked } = await lab.build();
  expect(asked[0]).toEqual({ op: 'encode_latents', items: 2 });
});

test('equal images are encoded once, also under two names', async () => {
  using lab = await openWorkerLab(program);
  lab.write({ 'images/copy.png': readFileSync(lab.at('images/one.png')), 'images/copy.txt': 'the same' });
  await settle();
  const { asked, finished } = await lab.build();
  expect(finished.ok).toBe(true);
  expect(asked[0]).toEqual({ op: 'encode_latents', items: 6 });
});

test('a picture that EXIF turns is fitted upright, and for a training with parity as it is stored', async () => {
  const both = program.concat('train theirs { base = pony  data = hero  steps = 1  parity = sd_scripts }');
  const exif = [0x49, 0x49, 0x2a, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
  using lab = await openWorkerLab(both);
  lab.write({ 'images/one.png': pngOf({ width: 1024, height: 512, chunks: { eXIf: exif } }) });
  const { finished, asked } = await lab.build();
  expect(finished).toMatchObject({ ok: true });
  expect(asked.filter(({ op }) => op === 'encode_latents')).toHaveLength(2);
  const buckets = async (output: string) => {
    const images = JSON.parse(await outputOf(lab, 'hero:manifest', output)) as {
      original: number[];
      bucket: number[];
    }[];
    return images.map(({ original, bucket }) => `${original.join('x')} in ${bucket.join('x')}`);
  };
  const [upright, stored] = [await buckets('images'), await buckets('images.as-stored')];
  expect(upright.filter((each) => !stored.includes(each))).toEqual(['512x1024 in 704x1440']);
  expect(stored.filter((each) => !upright.includes(each))).toEqual(['1024x512 in 1440x704']);
});

test('a manifest from before there were pictures as stored is completed when they are asked for', async () => {
  using lab = await openWorkerLab(program);
  await lab.build();
  const store = lab.store();
  const entry = await store.lookupEntry(store.history.get('main.lora#hero:manifest') as never);
  if (entry === undefined) throw new Error('There is no manifest.');
  const { 'images.as-stored': _, ...outputs } = entry.outputs;
  const file = `.lorac/ac/${entry.fingerprint.slice(0, 2)}/${entry.fingerprint}.json`;
  lab.write({ [file]: writeEntry({ ...entry, outputs }) });
  expect((await lab.build({}, { startWorker: noWorker })).statuses['hero:manifest']).toBe('fresh');
  lab.write({ 'main.lora': program.replace('steps = 6', 'steps = 6  parity = sd_scripts') });
  const { finished, statuses, reasons } = await lab.build();
  expect(finished.ok).toBe(true);
  expect(statuses['hero:manifest']).toBe('computed');
  expect(reasons['hero:manifest']).toEqual({ kind: 'output-missing', output: 'images.as-stored' });
});

test('what was encoded before a stop is not encoded again', async () => {
  using lab = await openWorkerLab(program);
  const stop = new AbortController();
  await lab.build(
    { DELAY_MS: '30' },
    {
      signal: stop.signal,
      onEvent: (event) => {
        if (event.type === 'node-progress' && event.progress.type === 'progress' && event.progress.done === 2)
          stop.abort();
      },
    },
  );
  const { asked, finished } = await lab.build();
  expect(finished.ok).toBe(true);
  expect(asked[0]?.op).toBe('encode_latents');
  expect(asked[0]?.items).toBeLessThanOrEqual(4);
});

test('images that the worker cannot read are all named before any training starts', async () => {
  using lab = await openWorkerLab(program);
  lab.write({
    'images/one.png': pngOf({ width: 800, height: 800, shade: 6660001 }),
    'images/two.png': pngOf({ width: 800, height: 800, shade: 6660002 }),
  });
  await settle();
  const { failures, statuses, asked } = await lab.build({ UNREADABLE: '666000' });
  expect(failures['raw:latents']?.problems.map(({ path }) => path)).toEqual(
    expect.arrayContaining([lab.at('images/one.png'), lab.at('images/two.png')]),
  );
  expect(statuses.raw).toBe('skipped');
  expect(asked.map(({ op }) => op)).toEqual(['encode_latents']);
});

test('steps are kept as save_every says, and the last step is the LoRA', async () => {
  using lab = await openWorkerLab(program);
  await lab.build();
  const store = lab.store();
  const entry = await store.lookupEntry(store.history.get('main.lora#raw') as never);
  expect(Object.keys(entry?.outputs ?? {}).sort()).toEqual(['lora', 'metrics', 'step.2', 'step.4', 'step.6']);
  expect(entry?.outputs['step.6']?.digest).toBe(entry?.outputs.lora?.digest);
  expect(entry?.record).toMatchObject({ device: 'cpu', torch: '2.13.0+fake', threads: 1 });
  expect(entry?.key.tools).toMatchObject({ torch: expect.stringMatching(/^\d/) });
});

test('a training whose worker dies goes on from its state, to the same bytes as without', async () => {
  using quiet = await openWorkerLab(program);
  await quiet.build();
  using lab = await openWorkerLab(program);
  const died = await lab.build({ DIE_AT_STEP: '4' });
  expect(died.failures.raw).toMatchObject({ kind: 'worker-died' });
  const steps: number[] = [];
  const after = await lab.build(
    { DIE_AT_STEP: '4' },
    {
      onEvent: (event) => {
        if (event.type === 'node-progress' && event.progress.type === 'step') steps.push(event.progress.step);
      },
    },
  );
  expect(after.finished.ok).toBe(true);
  expect(steps).toEqual([4, 5, 6]);
  expect(readFileSync(lab.at('hero.safetensors'))).toEqual(readFileSync(quiet.at('hero.safetensors')));
});

test('the pictures of a training lie in its run folder, and the samples node only collects them', async () => {
  using lab = await openWorkerLab(withSamples, { 'prompts.txt': prompts });
  const { asked, statuses } = await lab.build();
  expect(asked.filter(({ op }) => op === 'sample')).toEqual([]);
  expect(statuses['raw:samples']).toBe('computed');
  expect(pictures(lab)).toEqual(['000000', '000003', '000006'].flatMap((step) => [`${step}-00.png`, `${step}-01.png`]));
  expect(readFileSync(lab.at('.lorac/runs/raw/metrics.jsonl'), 'utf8').trim().split('\n')).toHaveLength(6);
});

test('a changed prompt is rendered from what is stored, and nothing is trained', async () => {
  using lab = await openWorkerLab(withSamples, { 'prompts.txt': prompts });
  await lab.build();
  lab.write({ 'prompts.txt': 'a cat --d 1\na horse --d 3\n' });
  await settle();
  const { asked, statuses } = await lab.build();
  expect(statuses.raw).toBe('fresh');
  expect(asked).toEqual([{ op: 'sample', items: 3 }, { op: 'montage' }]);
  lab.write({ 'prompts.txt': 'a cat --d 1\n' });
  await settle();
  const fewer = await lab.build();
  expect(fewer.finished.ok).toBe(true);
  expect(fewer.asked).toEqual([{ op: 'montage' }]);
  expect(pictures(lab)).toEqual(['000000-00.png', '000003-00.png', '000006-00.png']);
});

test('asking for pictures later keeps the training, and renders the steps that it has', async () => {
  using lab = await openWorkerLab(program, { 'prompts.txt': prompts });
  await lab.build();
  lab.write({
    'main.lora': program.replace('save_every = 2', 'save_every = 2  sample = { every = 2  prompts = "prompts.txt" }'),
  });
  const { asked, statuses } = await lab.build();
  expect(statuses.raw).toBe('fresh');
  expect(asked).toEqual([{ op: 'sample', items: 8 }, { op: 'montage' }]);
  const list = JSON.parse(await outputOf(lab, 'raw:samples', 'samples')) as { step: number }[];
  expect(list.map(({ step }) => step)).toEqual([0, 0, 2, 2, 4, 4, 6, 6]);
});

test('the montage is copied after each round of pictures, and the one that is stored has the same bytes', async () => {
  const saved = withSamples.concat('save "steps.png" { from = raw.montage }');
  using lab = await openWorkerLab(saved, { 'prompts.txt': prompts });
  const montage = lab.at('.lorac/runs/raw/montage.png');
  const seen: string[] = [];
  const { finished } = await lab.build(
    {},
    {
      onEvent: (event) => {
        if (event.type !== 'node-progress' || event.node !== 'raw') return;
        if (event.progress.type === 'artifact' && event.progress.name === 'montage')
          seen.push(readFileSync(event.progress.path, 'utf8'));
      },
    },
  );
  expect(finished.ok).toBe(true);
  // After step 0, 3 and 6. This worker is so fast that a copy may show more than was there when it was told.
  expect(seen).toHaveLength(3);
  const store = lab.store();
  const entry = await store.lookupEntry(store.history.get('main.lora#raw:samples') as never);
  expect(Object.keys(entry?.outputs ?? {}).sort()).toEqual(['animation', 'montage', 'samples']);
  const stored = entry?.outputs.montage?.digest;
  expect(stored && readFileSync(store.blobPath(stored), 'utf8')).toBe(readFileSync(montage, 'utf8'));
  expect(readFileSync(lab.at('steps.png'), 'utf8')).toBe(readFileSync(montage, 'utf8'));
});

test('pictures of the base are made once, whatever is trained on it', async () => {
  using lab = await openWorkerLab(withSamples, { 'prompts.txt': prompts });
  await lab.build();
  const base = (name: string) => readFileSync(lab.at(`.lorac/runs/${name}/samples/000000-00.png`));
  const other = withSamples
    .match(/train raw \{[^}]*\}[^}]*\}[^}]*\}/s)?.[0]
    .replace('train raw {', 'train other { seed = 3');
  lab.write({ 'main.lora': `${withSamples}${other}` });
  const { asked, finished } = await lab.build();
  expect(finished.ok).toBe(true);
  expect(asked.map(({ op }) => op)).toEqual(['train', 'montage']);
  expect(base('other')).toEqual(base('raw'));
});

test('at_first = false leaves the base out, and trains nothing again', async () => {
  using lab = await openWorkerLab(withSamples, { 'prompts.txt': prompts });
  await lab.build();
  lab.write({ 'main.lora': withSamples.replace('every = 3', 'every = 3  at_first = false') });
  const { asked, statuses } = await lab.build();
  expect(statuses.raw).toBe('fresh');
  expect(asked).toEqual([{ op: 'montage' }]);
  expect(pictures(lab)).toEqual(['000003-00.png', '000003-01.png', '000006-00.png', '000006-01.png']);
});

test('step 0 of a training that begins with a LoRA shows that LoRA', async () => {
  const begun = withSamples
    .replace('base = pony ', 'init = old  base = pony ')
    .concat('lora old { path = "old.safetensors" }');
  using quiet = await openWorkerLab(program);
  await quiet.build();
  using lab = await openWorkerLab(begun, { 'prompts.txt': prompts });
  copyFileSync(quiet.at('hero.safetensors'), lab.at('old.safetensors'));
  expect((await lab.build()).finished.ok).toBe(true);
  const shown = readFileSync(lab.at('.lorac/runs/raw/samples/000000-00.png'));
  lab.write({ 'main.lora': begun.replace('init = old ', '') });
  expect((await lab.build()).finished.ok).toBe(true);
  expect(readFileSync(lab.at('.lorac/runs/raw/samples/000000-00.png'))).not.toEqual(shown);
});

test('a prompt file that cannot be used stops the training before it begins', async () => {
  using lab = await openWorkerLab(withSamples, { 'prompts.txt': 'a cat --w wide\na dog --q 3\n' });
  const { failures, asked } = await lab.build();
  expect(failures.raw?.problems).toEqual([
    { path: lab.at('prompts.txt'), message: 'line 1: "--w" needs a whole number from 64 to 4096, and has "wide"' },
    { path: lab.at('prompts.txt'), message: expect.stringContaining('line 2: "--q" is no option') },
  ]);
  expect(asked.map(({ op }) => op)).toEqual(['encode_latents']);
});

test('numbers of the base are computed only where a recipe names them', async () => {
  using lab = await openWorkerLab(program.replace('thr = -6', 'thr = -6  spn_ckpt = 1  subspace = 1'));
  const { asked, finished } = await lab.build();
  expect(finished.ok).toBe(true);
  expect(asked.map(({ op }) => op).sort()).toEqual(['decompose', 'encode_latents', 'projections', 'spectral', 'train']);
});

test('an image that is replaced while images are encoded is named, and its latents are not taken for the old one', async () => {
  using lab = await openWorkerLab(program);
  const before = readFileSync(lab.at('images/two.png'));
  const after = pngOf({ width: 1024, height: 960, shade: 77 });
  const replaced = await lab.build(
    {},
    {
      onEvent: (event) => {
        if (event.type === 'node-started' && event.node === 'raw:latents') lab.write({ 'images/two.png': after });
      },
    },
  );
  expect(replaced.failures['raw:latents']).toMatchObject({
    kind: 'file-changing',
    message: expect.stringContaining(lab.at('images/two.png')),
  });
  lab.write({ 'images/two.png': before });
  await settle();
  const { asked, finished } = await lab.build();
  expect(finished.ok).toBe(true);
  expect(asked[0]?.op).toBe('encode_latents');
  expect(replaced.asked).toEqual([{ op: 'encode_latents', items: 6 }]);
});

test('a checkpoint that is replaced while something is made of it gives no result', async () => {
  for (const node of ['raw:latents', 'raw']) {
    using lab = await openWorkerLab(program);
    const before = readFileSync(lab.at('pony.safetensors'));
    const run = await lab.build(
      {},
      {
        onEvent: (event) => {
          if (event.type === 'node-started' && event.node === node)
            lab.write({ 'pony.safetensors': before.fill(1, before.length - 1) });
        },
      },
    );
    expect(run.failures[node]).toMatchObject({
      kind: 'file-changing',
      message: expect.stringContaining(lab.at('pony.safetensors')),
    });
    const again = await lab.build();
    expect(again.finished.ok).toBe(true);
    expect(again.finished.computed).toContain(node);
  }
});
