// Has pictures made that are not stored yet, and stores each as it comes: what is stopped in the middle goes on where
// it was. Pictures that are equal, such as a LoRA with its only block and the whole of it, are made once.

import { basename } from 'node:path';
import type { Digest } from '../../cache/digest.ts';
import type { Fingerprint } from '../../cache/fingerprint.ts';
import type { StageProgress } from '../../events.ts';
import type { AbsolutePath } from '../../graph/graph.ts';
import { pathIn } from '../../graph/paths.ts';
import type { Artifact, StageContext } from '../../stage.ts';
import type { AppliedLora, Sample, SamplePrompt } from '../../worker/protocol.ts';
import { type Answered, askWorkerForFiles } from '../ask-worker.ts';
import { type Base, modelFiles } from '../checkpoint-files.ts';
import type { RunFiles } from '../run-files.ts';
import { type ActingLora, acting, findPicture, identify, type Picture, publishPicture } from './stored.ts';

/** A LoRA's file, and how it acts. */
export interface ActingFile extends Pick<ActingLora, 'strength' | 'blocks'> {
  readonly file: Artifact;
}

export interface WantedPicture {
  /** What the caller calls it. */
  readonly name: string;
  /** `null`: the bare checkpoint. */
  readonly lora: ActingFile | null;
  readonly prompt: SamplePrompt;
}

export interface PictureJob {
  readonly base: Base;
  readonly mixed_precision: Sample['mixed_precision'];
  readonly fp8_base?: Sample['fp8_base'];
  readonly process?: Sample['process'];
  /** Neighbours with one LoRA load it once. */
  readonly wanted: readonly WantedPicture[];
}

/** A job of which it is known what there is to do. */
export interface PlannedPictures {
  /** By the caller's name. Pictures that are still to be made are missing. */
  readonly found: ReadonlyMap<string, Digest>;
  /** One for each picture to make, with all the names that it goes by. */
  readonly missing: readonly MissingPicture[];
}

interface MissingPicture {
  readonly names: readonly string[];
  readonly picture: Picture;
  readonly lora: AppliedLora | null;
}

/** Looks up which pictures are stored. */
export async function planPictures({ store }: Pick<StageContext, 'store'>, job: PictureJob): Promise<PlannedPictures> {
  const found = new Map<string, Digest>();
  const missing = new Map<Fingerprint, MissingPicture>();
  for (const { name, lora, prompt } of job.wanted) {
    const acts = acting(lora && { digest: lora.file.digest, strength: lora.strength, blocks: lora.blocks });
    const { mixed_precision, fp8_base, process } = job;
    const picture = { lora: acts, checkpoint: job.base.digest, prompt, mixed_precision, fp8_base, process };
    const { fingerprint } = identify(picture);
    const twin = missing.get(fingerprint);
    const digest = twin === undefined ? await findPicture(store, picture) : undefined;
    if (digest !== undefined) {
      found.set(name, digest);
      continue;
    }
    const applied = acts && lora && { path: lora.file.path, strength: acts.strength, blocks: acts.blocks };
    missing.set(fingerprint, { names: [...(twin?.names ?? []), name], picture, lora: applied });
  }
  return { found, missing: [...missing.values()] };
}

/** A picture that the caller got. */
export function pictureNamed(pictures: ReadonlyMap<string, Digest>, name: string): Digest {
  const picture = pictures.get(name);
  if (picture === undefined) throw new Error(`Internal error: there is no picture "${name}".`);
  return picture;
}

/** As `renderPictures`, with a copy of each for the user in `pictures/` as soon as it is there. */
export async function renderForUser(
  context: StageContext,
  job: PictureJob,
  plan: PlannedPictures,
  options: RenderOptions & { readonly files: RunFiles; readonly fileNameOf: (name: string) => string },
): ReturnType<typeof renderPictures> {
  const show = async (name: string, picture: Digest): Promise<void> => {
    const path = await options.files.copy(context.store.blobPath(picture), 'pictures', options.fileNameOf(name));
    context.report({ type: 'artifact', name, path });
  };
  for (const [name, picture] of plan.found) await show(name, picture);
  return renderPictures(context, job, plan, { ...options, onPicture: show });
}

/** Copies those of a job that are stored to the folder `pictures/`, from which all others go. */
export async function copyPictures(
  { store }: Pick<StageContext, 'store'>,
  job: PictureJob,
  { files, fileNameOf }: { readonly files: RunFiles; readonly fileNameOf: (name: string) => string },
): Promise<void> {
  const { found } = await planPictures({ store }, job);
  await files.keepOnlyPictures('pictures', new Set([...found.keys()].map(fileNameOf)));
  for (const [name, picture] of found) await files.copy(store.blobPath(picture), 'pictures', fileNameOf(name));
}

export interface RenderOptions {
  /** Told of each picture that is made, once it is stored. */
  readonly onPicture?: (name: string, picture: Digest) => Promise<void>;
  /** How many pictures of a larger job were done before these, and how many that job has. */
  readonly before?: number;
  readonly total?: number;
}

/**
 * The pictures of a job by the caller's names, and the facts about the worker where it was needed.
 * Throws a `StageFailure`; what was made by then is stored.
 */
export async function renderPictures(
  context: StageContext,
  job: PictureJob,
  { found, missing }: PlannedPictures,
  { onPicture, before = 0, total = before + missing.length }: RenderOptions = {},
): Promise<{ readonly pictures: ReadonlyMap<string, Digest>; readonly record: Answered['record'] | undefined }> {
  const pictures = new Map(found);
  if (missing.length === 0) return { pictures, record: undefined };
  const sources = [...job.base.paths, ...job.wanted.flatMap(({ lora }) => (lora ? [lora.file.path] : []))];
  const users = Object.values(context.node.files).filter((path) => sources.includes(path));
  const items = missing.map(({ lora, picture }, index) => {
    return { name: String(index), lora, prompt: picture.prompt, output: pathIn(context.work, `picture-${index}.png`) };
  });
  const { base, mixed_precision, fp8_base, process } = job;
  const work = {
    op: 'sample',
    checkpoint: modelFiles(base.files),
    ...(process && { process }),
    mixed_precision,
    ...(fp8_base !== undefined && { fp8_base }),
    items,
  } as const;
  const publish = async (item: string, path: AbsolutePath): Promise<void> => {
    const made = missing[Number(item)];
    if (made === undefined) throw new Error(`Internal error: the worker rendered ${basename(path)} unasked.`);
    await context.requireUnchanged(users);
    const digest = await publishPicture(context.store, made.picture, path);
    for (const name of made.names) {
      pictures.set(name, digest);
      await onPicture?.(name, digest);
    }
  };
  const report = (progress: StageProgress): void =>
    context.report(progress.type === 'progress' ? { ...progress, done: before + progress.done, total } : progress);
  const { record } = await askWorkerForFiles({ ...context, report }, work, publish);
  const lost = job.wanted.find(({ name }) => !pictures.has(name));
  if (lost) throw new Error(`Internal error: the worker did not render "${lost.name}".`);
  return { pictures, record };
}
