// A worker without torch: speaks the real protocol, does every operation at once, and writes small valid files whose
// bytes depend on the request alone. For tests of everything around the worker.
//
// The environment makes it misbehave:
//   FAKE_WORKER_JOURNAL       a file that gets one JSON line for each request: { op, items }
//   FAKE_WORKER_DELAY_MS      how long each step, image, picture or module takes
//   FAKE_WORKER_DIE_AT_STEP   training kills the process before this step, unless it resumed from a state
//   FAKE_WORKER_FAIL          an operation that fails, and how: "train:out-of-memory"
//   FAKE_WORKER_UNREADABLE    images whose bytes hold this text cannot be read
//   FAKE_WORKER_SAY           a line to say instead of the answer to the first request
//   FAKE_WORKER_PROTOCOL      the number to give in the hello
//   FAKE_WORKER_MUTE          1: no hello
//   FAKE_WORKER_DEAF          1: cancels are not heard, nor is SIGTERM
//   FAKE_WORKER_STDERR        text for stderr at the start

import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { decompose, digestOf, distanceOf, fakeLatents, fakeLora, fakePicture, readTensors } from './fake-files.mjs';

const knob = (name) => process.env[`FAKE_WORKER_${name}`];
const delayMs = Number(knob('DELAY_MS') ?? 0);
const cancelled = new Set();
const queue = [];
let wake = () => {};

process.on('SIGINT', () => {});
if (knob('DEAF')) process.on('SIGTERM', () => {});
if (knob('STDERR')) process.stderr.write(`${knob('STDERR')}\n`);
if (!knob('MUTE')) {
  send({
    type: 'hello',
    protocol: Number(knob('PROTOCOL') ?? 1),
    python: '3.11.0',
    torch: '2.13.0+fake',
    device: 'cpu',
    deviceName: 'Fake processor',
    threads: 1,
  });
}

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const message = JSON.parse(line);
  if (message.type === 'cancel') {
    if (!knob('DEAF')) cancelled.add(message.id);
    return;
  }
  queue.push(message);
  wake();
});
lines.on('close', () => {
  if (!knob('DEAF')) process.exit(0);
});

async function answer({ id, work }) {
  const job = {
    tell: (type, fields) => send({ type, id, ...fields }),
    async pause() {
      if (delayMs > 0) await sleep(delayMs);
      if (cancelled.has(id)) throw { kind: 'cancelled', message: 'Stopped on request.' };
    },
  };
  if (knob('JOURNAL')) {
    const items = work.items?.map((item) => item.name);
    appendFileSync(knob('JOURNAL'), `${JSON.stringify({ op: work.op, ...(items ? { items } : {}) })}\n`);
  }
  if (knob('SAY') !== undefined) {
    process.stdout.write(`${knob('SAY')}\n`);
    return;
  }
  const [failingOp, failure] = (knob('FAIL') ?? '').split(':');
  try {
    if (failingOp === work.op) throw { kind: failure, message: `The fake ${work.op} fails as it was told.` };
    await job.pause();
    send({ type: 'result', id, outputs: await operations[work.op](work, job) });
  } catch (error) {
    const {
      kind,
      message,
      problems = [],
    } = error instanceof Error ? { kind: 'internal', message: error.stack } : error;
    send({ type: 'failure', id, failure: { kind, message, hint: null, problems } });
  }
}

const operations = {
  /** Looks alike what has the same size. */
  async look({ items, output }, job) {
    const looks = {};
    for (const { name, image } of items) {
      await job.pause();
      const bytes = readFileSync(image);
      looks[name] =
        knob('UNREADABLE') && bytes.includes(knob('UNREADABLE'))
          ? { problem: 'the fake worker was told that it cannot read this' }
          : { transparent: 0, hash: digestOf(bytes.subarray(16, 24)), plain: false };
      job.tell('progress', { done: Object.keys(looks).length, total: items.length, unit: 'images' });
    }
    writeWhole(output, JSON.stringify(looks));
    return { looks: output };
  },

  async encode_latents({ items, vae_precision, exif, transparency, resize_filter }, job) {
    const reading = [vae_precision, exif, transparency, resize_filter];
    const problems = items
      .filter(({ image }) => knob('UNREADABLE') && readFileSync(image).includes(knob('UNREADABLE')))
      .map(({ image }) => ({ path: image, message: 'The fake worker was told that it cannot read this.' }));
    if (problems.length > 0) throw { kind: 'bad-input', message: 'Some images cannot be used.', problems };
    for (const [index, item] of items.entries()) {
      await job.pause();
      const seed = digestOf(
        readFileSync(item.image),
        JSON.stringify([item.bucket, item.flip, ...reading, maskOf(item)]),
      );
      writeWhole(item.output, fakeLatents(seed, item.bucket));
      job.tell('artifact', { name: item.name, path: item.output });
      job.tell('progress', { done: index + 1, total: items.length, unit: 'images' });
    }
    return {};
  },

  async train({ work, images, settings, init, save_steps, until, held_out, samples, events }, job) {
    const statePath = join(work, 'state.json');
    const resumed = existsSync(statePath) ? JSON.parse(readFileSync(statePath, 'utf8')).step : 0;
    const content = images.map(({ digest, index, caption, latents }) => [
      digest,
      index,
      caption,
      digestOf(readFileSync(latents)),
    ]);
    if (init !== undefined) content.push(digestOf(readFileSync(init.lora)));
    if (events) {
      const seconds = readdirSync(events).filter((name) => name.startsWith('events.out')).length;
      writeFileSync(join(events, `events.out.tfevents.${seconds}.fake`), JSON.stringify([settings, resumed]));
    }
    const outputs = {};
    const metrics = [];
    const shown = [];
    const renderAt = (step, lora, isReplayed) => {
      for (const [row, prompt] of samples.prompts.entries()) {
        const picture = join(work, `sample-${step}-${row}.png`);
        if (!isReplayed) writeWhole(picture, givenAt(samples, step, row) || fakePicture(lora, prompt));
        outputs[`sample.${step}.${row}`] = picture;
        job.tell('artifact', { name: `sample.${step}.${row}`, path: picture });
        shown.push({ step, row, picture });
      }
      const [montage, animation] = [join(work, 'montage.png'), join(work, 'animation.webp')];
      drawMontage({ labels: samples.labels, pictures: shown, output: montage, animation });
      job.tell('artifact', { name: 'montage', path: montage });
      job.tell('artifact', { name: 'animation', path: animation });
    };
    if (samples.steps.includes(0)) {
      renderAt(0, init === undefined ? Buffer.alloc(0) : readFileSync(init.lora), resumed > 0);
    }
    for (let step = 1; step <= until; step++) {
      metrics.push(JSON.stringify({ step, loss: 1 / step }));
      const isReplayed = step <= resumed;
      if (!isReplayed) {
        await job.pause();
        if (resumed === 0 && step === Number(knob('DIE_AT_STEP'))) process.kill(process.pid, 'SIGKILL');
        job.tell('step', {
          step,
          total: settings.steps,
          loss: 1 / step,
          learning_rates: { unet: settings.unet_lr, text_encoder: settings.text_encoder_lr },
          grad_norm: 1,
          seconds: 0.01,
        });
      }
      if (samples.steps.includes(step)) renderAt(step, loraAt(settings, content, step), isReplayed);
      if (save_steps.includes(step)) {
        const path = join(work, `step-${step}.safetensors`);
        if (!isReplayed) writeWhole(path, loraAt(settings, content, step));
        outputs[`step.${step}`] = path;
        job.tell('artifact', { name: `step.${step}`, path });
      }
      if (!isReplayed) writeWhole(statePath, JSON.stringify({ step }));
    }
    if (until === settings.steps) {
      outputs.lora = join(work, 'lora.safetensors');
      writeWhole(outputs.lora, loraAt(settings, content, settings.steps));
      if (settings.ema !== undefined) {
        outputs.ema = join(work, 'ema.safetensors');
        writeWhole(outputs.ema, loraAt(settings, [...content, 'averaged'], settings.steps));
      }
    }
    // As if the third step were the best, and what is near it nearly so.
    const [best] = [...(held_out?.steps ?? [])].sort((one, other) => Math.abs(one - 3) - Math.abs(other - 3));
    if (best !== undefined) outputs.best = best === until ? outputs.lora : outputs[`step.${best}`];
    outputs.metrics = join(work, 'metrics.jsonl');
    writeWhole(outputs.metrics, `${metrics.join('\n')}\n`);
    return outputs;
  },

  async sample({ items }, job) {
    for (const [index, item] of items.entries()) {
      await job.pause();
      const { path, ...weights } = item.lora ?? {};
      const isWhole = weights.strength === 1 && weights.blocks === null;
      const lora = path === undefined ? Buffer.alloc(0) : readFileSync(path);
      writeWhole(item.output, fakePicture(lora, path === undefined || isWhole ? item.prompt : [item.prompt, weights]));
      job.tell('artifact', { name: item.name, path: item.output });
      job.tell('progress', { done: index + 1, total: items.length, unit: 'pictures' });
    }
    return {};
  },

  async measure({ pairs, output }, job) {
    const distances = {};
    for (const { name, first, second } of pairs) {
      await job.pause();
      distances[name] = distanceOf(readFileSync(first), readFileSync(second));
    }
    job.tell('progress', { done: pairs.length, total: pairs.length, unit: 'pictures' });
    writeWhole(output, JSON.stringify(distances));
    return { distances: output };
  },

  /** A pixel whose color follows from everything that a grid would show. */
  async grid({ output, cells, ...labels }, job) {
    await job.pause();
    const shown = cells.map(({ picture, compared, ...rest }) => {
      return [rest, digestOf(readFileSync(picture)), compared && digestOf(readFileSync(compared))];
    });
    job.tell('progress', { done: cells.length, total: cells.length, unit: 'pictures' });
    writeWhole(output, fakePicture(Buffer.alloc(0), [labels, shown]));
    return { grid: output };
  },

  async montage(work, job) {
    await job.pause();
    job.tell('progress', { done: work.pictures.length, total: work.pictures.length, unit: 'pictures' });
    drawMontage(work);
    return { montage: work.output, animation: work.animation };
  },

  async decompose({ lora, factors, modules }, job) {
    const { bytes, names } = decompose(readTensors(readFileSync(lora)));
    await job.pause();
    job.tell('progress', { done: names.length, total: names.length, unit: 'modules' });
    writeWhole(factors, bytes);
    writeWhole(modules, `${JSON.stringify(names)}\n`);
    return { factors, modules };
  },

  frobenius: (work, job) => referenceNumbers(work, job, () => 10),
  spectral: (work, job) => referenceNumbers(work, job, () => 2),
  projections: (work, job) => {
    const { tensors } = readTensors(readFileSync(work.factors));
    return referenceNumbers(work, job, (name) => Array.from(tensors.get(`${name}.s`).values, () => 1));
  },
};

/** What the latents get beside them, by its content. */
function maskOf({ mask }) {
  return mask?.kind === 'file' ? digestOf(readFileSync(mask.path)) : mask?.kind;
}

/** Every weight is alike here: the checkpoints of tests are too small to be weighed. */
async function referenceNumbers({ modules, output }, job, number) {
  const names = JSON.parse(readFileSync(modules, 'utf8'));
  await job.pause();
  job.tell('progress', { done: names.length, total: names.length, unit: 'modules' });
  writeWhole(output, `${JSON.stringify(Object.fromEntries(names.map((name) => [name, number(name)])))}\n`);
  return { numbers: output };
}

/** Bytes that follow from everything that would be seen. */
function drawMontage({ labels, pictures, output, animation }) {
  const shown = pictures.map(({ step, row, picture }) => [step, row, digestOf(readFileSync(picture))]);
  writeWhole(output, fakePicture(Buffer.alloc(0), [labels, shown]));
  writeWhole(animation, JSON.stringify([labels, shown]));
}

function givenAt({ given }, step, row) {
  const picture = step === 0 && given.find(({ index }) => index === row)?.picture;
  return picture && readFileSync(picture);
}

function loraAt(settings, content, step) {
  // What does not change the LoRA must not change its bytes either.
  const { gradient_checkpointing: _, on_non_finite: __, vram: ___, ...rest } = settings;
  return fakeLora(digestOf(JSON.stringify([rest, content, step])));
}

function writeWhole(path, bytes) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.partial`, bytes);
  renameSync(`${path}.partial`, path);
}

function send(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

for (;;) {
  while (queue.length === 0) {
    await new Promise((resolve) => {
      wake = resolve;
    });
  }
  await answer(queue.shift());
}
