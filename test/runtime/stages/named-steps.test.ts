// Steps of a training that the program names: always saved, and trained up to where a stored training lacks them.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { RunEvent } from '../../../src/runtime/events.ts';
import { fromNumbers, toFloat64 } from '../../../src/runtime/safetensors/convert.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { LORA_LIMITS } from '../../../src/runtime/safetensors/header.ts';
import { averageWeights } from '../../../src/runtime/surgery/average.ts';
import { noWorker } from '../../helpers/lab.ts';
import { pngOf } from '../../helpers/pictures.ts';
import { openWorkerLab, type WorkerLab } from './worker-lab.ts';

const program = (more = '', steps = 6) => `
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw {
  base = pony  data = hero  steps = ${steps}  save_every = 100
  network = locon { dim = 2  alpha = 1  conv_dim = 2  conv_alpha = 1 }
}
save "last.safetensors" { from = raw }
${more}
`;
const early = 'save "early.safetensors" { from = raw@3 }';

async function outputsOfTraining(lab: WorkerLab) {
  const store = lab.store();
  return (await store.lookupEntry(store.history.get('main.lora#raw') as never))?.outputs ?? {};
}

/** The steps that were trained during a build. */
function listen() {
  const steps: number[] = [];
  const onEvent = (event: RunEvent) => {
    if (event.type === 'node-progress' && event.progress.type === 'step') steps.push(event.progress.step);
  };
  return { steps, onEvent };
}

test('a step that the program names is saved, whatever save_every says', async () => {
  using lab = await openWorkerLab(program(early));
  const { finished } = await lab.build();
  expect(finished.ok).toBe(true);
  expect(Object.keys(await outputsOfTraining(lab)).sort()).toEqual(['lora', 'metrics', 'step.3', 'step.6']);
  expect(readFileSync(lab.at('early.safetensors'))).not.toEqual(readFileSync(lab.at('last.safetensors')));
});

test('of the steps that are saved the last ones are kept, and those that are named', async () => {
  using lab = await openWorkerLab(program(early).replace('save_every = 100', 'save_every = 1  save_last_n_steps = 1'));
  await lab.build();
  const names = Object.keys(await outputsOfTraining(lab)).filter((name) => name.startsWith('step.'));
  expect(names.sort()).toEqual(['step.3', 'step.5', 'step.6']);
});

test('where the stored training lacks it, training goes up to that step and no further, and says why', async () => {
  using lab = await openWorkerLab(program());
  await lab.build();
  const before = await outputsOfTraining(lab);
  lab.write({ 'main.lora': program(early) });

  const { nodes } = await lab.plan();
  const because = { kind: 'output-missing', output: 'step.3' };
  expect(nodes.find(({ node }) => node === 'raw')).toMatchObject({ status: 'runs', because });

  const { steps, onEvent } = listen();
  const { finished, reasons, statuses } = await lab.build({}, { onEvent });
  expect(finished.ok).toBe(true);
  expect(reasons.raw).toEqual(because);
  expect(steps).toEqual([1, 2, 3]);
  // What was made of the LoRA is not made again.
  expect(statuses).toMatchObject({ raw: 'computed', 'last.safetensors': 'fresh', 'early.safetensors': 'computed' });
  expect(await outputsOfTraining(lab)).toMatchObject({ ...before, 'step.3': expect.anything() });
  // The whole training's numbers stay in sight.
  expect(readFileSync(lab.at('.lorac/runs/raw/metrics.jsonl'), 'utf8').trim().split('\n')).toHaveLength(6);

  const again = await lab.build({}, { startWorker: noWorker });
  expect(new Set(Object.values(again.statuses))).toEqual(new Set(['fresh']));
});

test('a step that is added gives the bytes that it would have had from the first', async () => {
  using first = await openWorkerLab(program(early));
  await first.build();
  using later = await openWorkerLab(program());
  await later.build();
  later.write({ 'main.lora': program(early) });
  await later.build();
  expect(readFileSync(later.at('early.safetensors'))).toEqual(readFileSync(first.at('early.safetensors')));
});

test('the last step is the LoRA itself, and needs no training', async () => {
  using lab = await openWorkerLab(program());
  await lab.build();
  lab.write({ 'main.lora': program('save "six.safetensors" { from = raw@6 }') });
  const { finished } = await lab.build({}, { startWorker: noWorker });
  expect(finished.ok).toBe(true);
  expect(finished.computed).toEqual(['six.safetensors']);
});

test('a training towards a named step that is cut off goes on from its state', async () => {
  using lab = await openWorkerLab(program());
  await lab.build();
  lab.write({ 'main.lora': program('save "four.safetensors" { from = raw@4 }') });
  const died = await lab.build({ DIE_AT_STEP: '3' });
  expect(died.failures.raw).toMatchObject({ kind: 'worker-died' });
  const { steps, onEvent } = listen();
  const after = await lab.build({ DIE_AT_STEP: '3' }, { onEvent });
  expect(after.finished.ok).toBe(true);
  expect(steps).toEqual([3, 4]);
});

test('a resize of a step has a decomposition of its own, and pictures are labelled with the step', async () => {
  const made =
    'resize a { from = raw@3 } resize b { from = raw } preview p { loras = [raw, raw@3]  prompts = "p.txt" }';
  using lab = await openWorkerLab(program(made));
  const { nodes } = lab.graph();
  const named = (id: string) => nodes.find((node) => node.id === id);
  expect(named('raw@3:decompose')?.inputs.lora).toEqual({ node: 'raw', output: 'step.3' });
  expect(named('raw:decompose')?.inputs.lora).toEqual({ node: 'raw', output: 'lora' });
  expect(named('p')?.attributes.labels).toEqual(['raw', 'raw@3']);
});

test('a LoRA that a training begins with reaches the worker, and another one is another training', async () => {
  const more = (init: string) => `
    train more {
      base = pony  data = hero  steps = 2  ${init}
      network = locon { dim = 2  alpha = 1  conv_dim = 2  conv_alpha = 1 }
    }
    save "more.safetensors" { from = more }`;
  using lab = await openWorkerLab(program(more('init = raw@3')));
  expect((await lab.build()).finished.ok).toBe(true);
  const begun = readFileSync(lab.at('more.safetensors'));
  lab.write({ 'main.lora': program(more('init = raw')) });
  const other = await lab.build();
  expect(other.reasons.more).toEqual({ kind: 'input-changed', input: 'raw' });
  expect(readFileSync(lab.at('more.safetensors'))).not.toEqual(begun);
});

test('the average that a training keeps is an output of its own', async () => {
  const averaging = program('save "smooth.safetensors" { from = raw@ema }').replace(
    'save_every',
    'ema = 0.9  save_every',
  );
  using lab = await openWorkerLab(averaging);
  const { finished } = await lab.build();
  expect(finished.ok).toBe(true);
  expect(Object.keys(await outputsOfTraining(lab)).sort()).toEqual(['ema', 'lora', 'metrics', 'step.6']);
  expect(readFileSync(lab.at('smooth.safetensors'))).not.toEqual(readFileSync(lab.at('last.safetensors')));
  expect((await lab.build({}, { startWorker: noWorker })).finished.computed).toEqual([]);
});

describe('images that are held out', () => {
  const measuring = (validation: string, more = '') =>
    program(more).replace('save_every', `validation = ${validation}  save_every`);
  const best = 'save "best.safetensors" { from = raw@best }';

  test('the steps that are measured are kept, and the best of them has a name', async () => {
    using lab = await openWorkerLab(measuring('{ share = 0.3  every = 2 }', best));
    const { finished } = await lab.build();
    expect(finished.ok).toBe(true);
    const outputs = await outputsOfTraining(lab);
    expect(Object.keys(outputs).sort()).toEqual(['best', 'lora', 'metrics', 'step.2', 'step.4', 'step.6']);
    expect(outputs.best?.digest).toBe(outputs['step.2']?.digest);
    expect(readFileSync(lab.at('best.safetensors'))).not.toEqual(readFileSync(lab.at('last.safetensors')));
  });

  test('a share is not learned from, so it trains another LoRA; another dataset only measures', async () => {
    using lab = await openWorkerLab(program());
    await lab.build();
    const before = (await outputsOfTraining(lab)).lora?.digest;
    lab.write({ 'main.lora': measuring('{ share = 0.3 }') });
    await lab.build();
    expect((await outputsOfTraining(lab)).lora?.digest).not.toBe(before);

    lab.write({
      'main.lora': `dataset apart { images = "apart" } ${measuring('{ data = apart }')}`,
      'apart/four.png': pngOf({ width: 512, height: 512, shade: 9 }),
      'apart/four.txt': 'picture four',
    });
    const { finished, asked } = await lab.build();
    expect(finished.ok).toBe(true);
    // Nothing is mirrored that is only measured.
    expect(asked[0]).toEqual({ op: 'encode_latents', items: 1 });
    expect((await outputsOfTraining(lab)).lora?.digest).toBe(before);
  });

  test('an image that is learned from as well is told', async () => {
    using lab = await openWorkerLab(`dataset apart { images = "images/one.png" } ${measuring('{ data = apart }')}`);
    const { events } = await lab.build();
    const said = events.flatMap((event) =>
      event.type === 'node-progress' && event.progress.type === 'log' ? [event.progress.message] : [],
    );
    expect(said.join()).toContain('1 of the 1 images to measure with are learned from as well');
  });
});

describe('the average of the saved steps', () => {
  const averaging = program('save "smooth.safetensors" { from = raw@ema(0.5) }').replace(
    'save_every = 100',
    'save_every = 2',
  );

  test('is that of the parameters, step by step, rounded once', async () => {
    using lab = await openWorkerLab(averaging);
    const { finished } = await lab.build();
    expect(finished.ok).toBe(true);
    const outputs = await outputsOfTraining(lab);
    await using files = new AsyncDisposableStack();
    const open = async (path = '') => files.use(await SafetensorsFile.open(path, LORA_LIMITS));
    const [one, two, three] = await Promise.all([2, 4, 6].map((step) => open(outputs[`step.${step}`]?.path)));
    const smooth = await open(lab.at('smooth.safetensors'));
    const numbers = async (file: SafetensorsFile | undefined, name: string) => {
      const { dtype } = smooth.tensor(name);
      return [...(toFloat64((await file?.bytesOf(name)) ?? new Uint8Array(), dtype) ?? [])];
    };
    expect(smooth.header.tensors.size).toBeGreaterThan(2);
    for (const name of smooth.header.tensors.keys()) {
      const [a, b, c] = await Promise.all([one, two, three].map((file) => numbers(file, name)));
      const expected = a?.map(
        (value, place) => 0.5 * (0.5 * value + 0.5 * (b?.[place] ?? 0)) + 0.5 * (c?.[place] ?? 0),
      );
      const { dtype } = smooth.tensor(name);
      const rounded = fromNumbers(Float64Array.from(expected ?? []), dtype as 'F16' | 'F32');
      expect(await numbers(smooth, name)).toEqual([...(toFloat64(rounded, dtype) ?? [])]);
    }
  });

  test('steps that a stored training did not keep are trained for it', async () => {
    using lab = await openWorkerLab(program());
    await lab.build();
    lab.write({ 'main.lora': averaging });
    const { steps, onEvent } = listen();
    const { finished, statuses } = await lab.build({}, { onEvent });
    expect(finished.ok).toBe(true);
    expect(steps).toEqual([1, 2, 3, 4]);
    expect(statuses).toMatchObject({ 'raw@ema(0.5)': 'computed', 'last.safetensors': 'fresh' });
  });

  test('the weights of the steps add up to one', () => {
    expect(averageWeights(3, 0.5)).toEqual([0.25, 0.25, 0.5]);
    for (const count of [1, 2, 9]) {
      expect(averageWeights(count, 0.9).reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 12);
    }
  });
});
