// From latents and captions to a LoRA. The worker does it in the node's work folder, where a killed training goes on.
//
// Outputs: `lora`, `metrics`, and `step.N` for each step that is kept: every `save_every`, or the last of those, those that the program names,
// those that pictures are made of, and the last, which is the LoRA itself. `best` where something is held out, and `ema`
// where an average is kept. Pictures are published for the samples node to
// find. A stored training that lacks a step which is named now goes up to that step once more, and no further.

import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { keptSteps } from '../../parser/model.ts';
import { type Digest, digestFile } from '../cache/digest.ts';
import type { Fingerprint } from '../cache/fingerprint.ts';
import { holdOut } from '../dataset/held-out.ts';
import { StageFailure, type StageProgress } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import { absolutePath } from '../graph/paths.ts';
import type { Stage, StageContext, StageResult } from '../stage.ts';
import type { SamplePrompt, Train, TrainSettings } from '../worker/protocol.ts';
import { askWorker } from './ask-worker.ts';
import { checkSpace } from './check-space.ts';
import { baseOf, modelFiles } from './checkpoint-files.ts';
import { inputOf } from './input-of.ts';
import type { ImageLatents } from './latents.ts';
import { type LaunchSettings, launchOf } from './launch.ts';
import type { ManifestImage } from './manifest.ts';
import { promptLabel, readPrompts } from './pictures/sample-prompts.ts';
import {
  findPicture,
  type Picture,
  pictureName,
  pictureSteps,
  pictureTools,
  publishPicture,
  wholeLora,
} from './pictures/stored.ts';
import { montageNames, RunFiles } from './run-files.ts';
import { canonicalTraining } from './train-attributes.ts';
import { trainingSpace } from './train-space.ts';

/** The metrics for the user are copied at most this often. */
const METRICS_EVERY_MS = 5_000;

export const train: Stage = {
  name: 'train',
  revision: 1,
  pool: 'gpu',
  runsIn: 'worker',
  tools: pictureTools,
  canonical: canonicalTraining,
  async run(context) {
    const request = await planTraining(context);
    await checkSpace(context, {
      doing: `Training "${context.node.id}"`,
      parts: await trainingSpace(baseOf(context).files, request),
    });
    if (context.missing) return addSteps(context, request);
    const files = await RunFiles.open(context, context.node.id);
    const isOurs = await files.beginTraining(basename(context.work) as Fingerprint, context.signal);
    const copies = new Copies(context, files);
    const work = { ...request, events: isOurs ? files.folder : null };
    const { outputs, record } = await askWorker(context, work, (progress) => copies.follow(progress)).finally(() =>
      copies.finish(),
    );
    const { lora, metrics, best, ema, ...others } = outputs;
    if (lora === undefined || metrics === undefined) throw new Error('Internal error: a training without a LoRA.');
    const steps = Object.entries(others).filter(([name]) => name.startsWith('step.'));
    const kept = Object.fromEntries(steps.map(([name, path]) => [name, absolutePath(path)]));
    const last = { [`step.${request.settings.steps}`]: absolutePath(lora), lora: absolutePath(lora) };
    await publishPictures(context, request, { outputs: others, loras: { ...kept, ...last } });
    const named = Object.entries({ best, ema, metrics }).flatMap(([name, path]) =>
      path === undefined ? [] : [[name, absolutePath(path)] as const],
    );
    return { outputs: { ...kept, ...last, ...Object.fromEntries(named) }, record };
  },
  shown: {
    block: ({ id }) => id,
    async layOut(context) {
      const files = await RunFiles.open(context, context.node.id);
      const { training } = await files.whose();
      const { fingerprint, outputs } = context.entry;
      if (training !== undefined && training !== fingerprint && (await context.store.isComputing(training))) {
        const message = `"${files.folder}" shows another training of that name, which goes on just now.`;
        context.report({ type: 'log', level: 'info', message });
        return false;
      }
      if (outputs.metrics === undefined) return false;
      await files.takeFor(fingerprint);
      const path = await files.copy(outputs.metrics.path, 'metrics.jsonl');
      context.report({ type: 'artifact', name: 'metrics', path });
      return files.isWhole;
    },
  },
};

/** Only the steps that the stored result lacks: all that was made with its LoRA stays. */
async function addSteps(context: StageContext, request: Train): Promise<StageResult> {
  const last = request.settings.steps;
  const message = `Training up to step ${request.until} of ${last}: the stored training did not keep ${request.save_steps.length === 1 ? 'it' : 'all that are named'}.`;
  context.report({ type: 'log', level: 'info', message });
  const { outputs, record } = await askWorker(context, request, (progress) => {
    if (progress.type !== 'artifact') context.report(progress);
  });
  const names = request.save_steps.map((step) => `step.${step}`);
  return { outputs: Object.fromEntries(names.map((name) => [name, absolutePath(outputs[name] as string)])), record };
}

interface Settings {
  readonly save_every: number;
  /** Left out: all. */
  readonly save_last_n_steps?: number;
  /** Those that the program names. */
  readonly save_steps: readonly number[];
  readonly state_every: Train['state_every'];
  readonly gradient_checkpointing: TrainSettings['gradient_checkpointing'];
  readonly on_non_finite: TrainSettings['on_non_finite'];
  readonly blocks_to_swap: number;
  readonly compile: boolean;
  /** MiB. */
  readonly vram: number | null;
  readonly launch: LaunchSettings;
  readonly sample: {
    readonly at_first: boolean;
    readonly every: number;
    readonly prompts: AbsolutePath;
    readonly sampler: SamplePrompt['sampler'];
  } | null;
}

async function planTraining(context: StageContext): Promise<Train> {
  const {
    save_every,
    save_last_n_steps,
    save_steps: named,
    state_every,
    gradient_checkpointing,
    on_non_finite,
    blocks_to_swap,
    compile,
    vram,
    launch,
    sample,
  } = context.node.settings as unknown as Settings;
  const { validation, ...learning } = context.node.attributes as unknown as Measured;
  const limit = vram === null ? {} : { vram: Math.max(1, Math.floor(vram * 2 ** 20)) };
  const computing = { gradient_checkpointing, on_non_finite, blocks_to_swap, compile, ...limit };
  const settings = { ...learning, ...computing } as unknown as TrainSettings;
  const { steps } = settings;
  const missing = context.missing?.map((output) => Number(output.replace('step.', '')));
  const samples = missing ? noSamples : await planSamples(context, settings, sample);
  const saved = keptSteps({ steps, save_every, save_last_n_steps });
  // The last step needs no copy of its own: it is the LoRA.
  const images = await planImages(context);
  const held = validation && planHeldOut(context, images, validation, await heldOutOfInputs(context));
  const measured = held ? every(validation.every, steps) : [];
  const kept = new Set(missing ?? [...saved, ...named, ...samples.steps, ...measured]);
  const save_steps = [...kept].filter((step) => 0 < step && step < steps).sort((a, b) => a - b);
  return {
    op: 'train',
    checkpoint: modelFiles(baseOf(context).files),
    work: context.work,
    images: [...(held?.learned ?? images), ...(await planRegularization(context, images))],
    settings,
    ...(context.inputs.init && { init: planInit(inputOf(context, 'init')) }),
    save_steps,
    held_out: held && !missing ? { images: held.measured, timesteps: validation.timesteps, steps: measured } : null,
    until: missing ? Math.max(...missing) : steps,
    samples,
    state_every,
    events: null,
    ...launchOf(launch),
  };
}

const noSamples: Train['samples'] = { steps: [], prompts: [], labels: [], given: [] };

async function planSamples(
  context: StageContext,
  settings: TrainSettings,
  sample: Settings['sample'],
): Promise<Train['samples']> {
  if (sample === null) return noSamples;
  const prompts = await readPrompts(sample.prompts, sample.sampler);
  const begins = sample.at_first
    ? prompts.map((prompt) => pictureOf(context, settings, prompt, beginning(context)))
    : [];
  const stored = await Promise.all(begins.map((picture) => findPicture(context.store, picture)));
  return {
    steps: pictureSteps({ ...sample, steps: settings.steps }),
    prompts,
    labels: prompts.map(promptLabel),
    given: stored.flatMap((digest, index) =>
      digest === undefined ? [] : [{ index, picture: context.store.blobPath(digest) }],
    ),
  };
}

/** The LoRA that a training begins with: where none is named, the bare checkpoint. */
function beginning({ inputs: { init } }: StageContext): Digest | null {
  return init?.digest ?? null;
}

function pictureOf(
  context: StageContext,
  { mixed_precision, fp8_base, process }: TrainSettings,
  prompt: SamplePrompt,
  lora: Digest | null,
): Picture {
  const { digest: checkpoint } = baseOf(context);
  return { lora: lora && wholeLora(lora), checkpoint, prompt, mixed_precision, fp8_base, process };
}

const planInit = ({ path, digest }: StageContext['inputs'][string]) => ({ lora: path, digest });

interface Measured {
  readonly validation?: { readonly every: number; readonly share?: number; readonly timesteps: readonly number[] };
}

/** Every so many steps, and the last. */
function every(interval: number, steps: number): readonly number[] {
  const whole = Array.from({ length: Math.floor(steps / interval) }, (_, index) => (index + 1) * interval);
  return [...new Set([...whole, steps])];
}

async function heldOutOfInputs(context: StageContext): Promise<Train['images'] | undefined> {
  return context.inputs['held_out.images'] && planImages(context, 'held_out.');
}

/** What is learned, and what is measured with: another dataset's images, or some of the training's own. */
function planHeldOut(
  context: StageContext,
  images: Train['images'],
  { share }: NonNullable<Measured['validation']>,
  others: Train['images'] | undefined,
): { readonly learned: Train['images']; readonly measured: Train['images'] } {
  const once = (measured: Train['images']) =>
    measured.map((image) => ({ ...image, repeats: 1, latents_flipped: null }));
  if (others !== undefined) {
    const learned = new Set(images.map(({ digest }) => digest));
    const shared = others.filter(({ digest }) => learned.has(digest)).length;
    const message = `${shared} of the ${others.length} images to measure with are learned from as well, so the held-out loss is too low.`;
    if (shared > 0) context.report({ type: 'log', level: 'warning', message });
    return { learned: images, measured: once(others) };
  }
  const held = holdOut(images, share ?? 0);
  if (held === undefined) {
    throw new StageFailure({
      kind: 'bad-input',
      message: `"${context.node.id}" has only one image, so none can be held out of the training.`,
      hint: 'Leave validation out, or name a dataset to measure with: validation = { data = … }',
    });
  }
  const pick = (places: readonly number[]) => places.flatMap((place) => images[place] ?? []);
  return { learned: pick(held.learned), measured: once(pick(held.heldOut)) };
}

/** Images of what the base knows. Where one is among `own` as well, its visits are still told apart. */
async function planRegularization(context: StageContext, own: Train['images']): Promise<Train['images']> {
  if (context.inputs['regularization.images'] === undefined) return [];
  const times = Map.groupBy(own, ({ digest }) => digest);
  const kept = await planImages(context, 'regularization.');
  return kept.map((image) => {
    const index = image.index + (times.get(image.digest)?.length ?? 0);
    return { ...image, index, regularization: true };
  });
}

/** `of`: what stands before the roles. */
async function planImages(
  context: StageContext,
  of: '' | 'held_out.' | 'regularization.' = '',
): Promise<Train['images']> {
  const images = await readJson<ManifestImage[]>(context, `${of}images`);
  const captions = await readJson<string[]>(context, `${of}captions`);
  const latents = await readJson<ImageLatents[]>(context, `${of}latents`);
  const stored = new Map(
    latents.map(({ image, mask, flipped, latents: digest }) => [latentsKey(image, mask, flipped), digest]),
  );
  const pathOf = (image: ManifestImage, flipped: boolean) => {
    const digest = stored.get(latentsKey(image.digest, image.mask, flipped));
    return digest === undefined ? undefined : context.store.blobPath(digest);
  };
  return images.map((image, index) => {
    const path = pathOf(image, false);
    const caption = captions[index];
    if (path === undefined || caption === undefined) {
      throw new Error(`Internal error: the image "${image.digest}" has no ${path ? 'caption' : 'latents'}.`);
    }
    return { ...image, caption, latents: path, latents_flipped: pathOf(image, true) ?? null, regularization: false };
  });
}

const latentsKey = (image: string, mask: string | undefined, flipped: boolean) => `${image} ${mask ?? ''} ${flipped}`;

/** Passes on what the worker says, and keeps the user's copies of pictures and metrics up to date meanwhile. */
class Copies {
  readonly #context: StageContext;
  readonly #files: RunFiles;
  #work: Promise<void> = Promise.resolve();
  #metricsAt = 0;

  constructor(context: StageContext, files: RunFiles) {
    this.#context = context;
    this.#files = files;
  }

  follow(progress: StageProgress): void {
    const picture = progress.type === 'artifact' ? parsePictureOutput(progress.name) : undefined;
    if (progress.type === 'artifact' && picture) {
      const { name, path } = progress;
      this.#next(async () => {
        const copy = await this.#files.copy(absolutePath(path), 'samples', pictureName(picture.step, picture.index));
        this.#context.report({ type: 'artifact', name, path: copy });
      });
      return;
    }
    if (progress.type === 'artifact' && (progress.name === 'montage' || progress.name === 'animation')) {
      const { name, path } = progress;
      const shown = montageNames[progress.name];
      this.#next(async () => {
        this.#context.report({ type: 'artifact', name, path: await this.#files.copy(absolutePath(path), shown) });
      });
      return;
    }
    if (progress.type === 'artifact' && progress.name.startsWith('step.')) {
      // Where it lies now is no place to point at: it moves into the store at the end.
      const message = `Saved the LoRA of step ${progress.name.slice('step.'.length)}.`;
      this.#context.report({ type: 'log', level: 'info', message });
      return;
    }
    this.#context.report(progress);
    if (progress.type !== 'step' || Date.now() - this.#metricsAt < METRICS_EVERY_MS) return;
    this.#metricsAt = Date.now();
    this.#next(async () => {
      await this.#files.copy(absolutePath(`${this.#context.work}/metrics.jsonl`), 'metrics.jsonl');
    });
  }

  finish(): Promise<void> {
    return this.#work;
  }

  #next(work: () => Promise<void>): void {
    this.#work = this.#work.then(work);
    this.#work.catch(() => {});
  }
}

async function publishPictures(
  context: StageContext,
  { samples, settings }: Train,
  done: {
    readonly outputs: { readonly [output: string]: string };
    readonly loras: { readonly [output: string]: AbsolutePath };
  },
): Promise<void> {
  await context.requireUnchanged(baseOf(context).paths);
  const digests = new Map<number, Digest | null>([[0, beginning(context)]]);
  for (const [name, path] of Object.entries(done.outputs)) {
    const picture = parsePictureOutput(name);
    const prompt = samples.prompts[picture?.index ?? -1];
    if (picture === undefined || prompt === undefined) continue;
    const { step } = picture;
    if (!digests.has(step)) {
      const lora = done.loras[`step.${step}`];
      if (lora === undefined) continue;
      digests.set(step, await digestFile(lora, { signal: context.signal }));
    }
    const identity = pictureOf(context, settings, prompt, digests.get(step) ?? null);
    await publishPicture(context.store, identity, absolutePath(path));
  }
}

function parsePictureOutput(name: string): { readonly step: number; readonly index: number } | undefined {
  const match = /^sample\.(\d+)\.(\d+)$/.exec(name);
  return match ? { step: Number(match[1]), index: Number(match[2]) } : undefined;
}

async function readJson<Content>(context: StageContext, role: string): Promise<Content> {
  return JSON.parse(await readFile(inputOf(context, role).path, 'utf8')) as Content;
}
