// From a dataset block to what a linter says of it: the files as they are now, and what is known of their pixels.

import { readFile } from 'node:fs/promises';
import type { BlockOf, CheckedProgram } from '../parser/model.ts';
import type { MutableMap } from '../runtime/cache/mutable-map.ts';
import type { Store } from '../runtime/cache/store.ts';
import { type CaptionLines, readCaption } from '../runtime/dataset/captions.ts';
import { type LintReport, lintDataset, type TrainingPlan } from '../runtime/dataset/lint/lint.ts';
import { lookKey, type PixelLook, parseLook } from '../runtime/dataset/pixel-look.ts';
import { type LookedAt, lookAtDataset } from '../runtime/dataset/survey.ts';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import type { Json } from '../runtime/graph/json.ts';
import { readingsOf } from '../runtime/graph/parity.ts';
import { resolvePath, startOf } from '../runtime/graph/paths.ts';
import { parsePrompts } from '../runtime/stages/pictures/sample-prompts.ts';
import { placesOfUser } from './places.ts';

export type Looks = MutableMap<PixelLook & Json>;

/** What is known of the pixels of images, kept in the store. Ask for it once. */
export function looksIn(store: Store): Looks {
  return store.notes('looks', parseLook);
}

/** An image or a mask. */
export type Picture = Pick<LookedAt['images'][number], 'digest' | 'path'>;

export interface LintOptions {
  readonly program: CheckedProgram;
  readonly store: Store;
  readonly looks: Looks;
  readonly signal: AbortSignal;
  readonly say: (message: string) => void;
  /** Has the pixels of images looked at that nobody has looked at yet. Without it, what is known has to do. */
  readonly lookCloser?: (pictures: readonly Picture[]) => Promise<void>;
}

export async function lintBlock(block: BlockOf<'dataset'>, options: LintOptions): Promise<LintReport> {
  const { program, store, looks, signal, say } = options;
  const {
    images: written,
    caption_extension,
    caption_missing,
    folders,
    wildcards,
    alpha_mask,
    masks,
    mask_missing,
    bucket,
    resolution,
    repeats,
  } = block.attributes;
  const places = placesOfUser();
  const captionLines = wildcards ? 'all' : 'first';
  const readings = readingsOf(block, program.blocks);
  const asStored = readings.some(({ exif }) => exif === 'ignore');
  const looked = await lookAtDataset({
    dataset: block.name,
    patterns: [written].flat().map((each) => {
      const { from, rest } = startOf(each, places);
      return { from, pattern: rest };
    }),
    captionExtension: caption_extension,
    folders,
    captionLines,
    captionMissing: caption_missing,
    ...(masks !== undefined && {
      masks: { folder: resolvePath(masks, places), missing: mask_missing, asStored },
    }),
    files: store.files,
    signal,
    say,
  });
  const images = [...looked.images, ...looked.uncaptioned];
  const pictures = [...images, ...images.flatMap(({ mask }) => mask ?? [])];
  await options.lookCloser?.(pictures.filter(({ digest }) => looks.get(lookKey(digest)) === undefined));
  return lintDataset({
    dataset: block.name,
    looked,
    captions: await captionsOf(looked, captionLines),
    looks: new Map(
      pictures.flatMap(({ digest }) => {
        const look = looks.get(lookKey(digest));
        return look === undefined ? [] : [[digest, look] as const];
      }),
    ),
    settings: {
      bucket: { ...bucket, resolution: [resolution.width, resolution.height] },
      repeats,
      asStored,
      alphaIsMeant: alpha_mask || block.attributeSpans.transparency !== undefined,
    },
    trainings: await trainingsWith(block.name, program),
  });
}

async function trainingsWith(dataset: string, { blocks }: CheckedProgram): Promise<readonly TrainingPlan[]> {
  const trainings = blocks.filter((block) => block.kind === 'train' && block.attributes.data.block === dataset);
  return await Promise.all(
    trainings.map(async (block) => {
      const {
        steps,
        batch_size: batchSize,
        gradient_accumulation_steps,
        sample,
      } = (block as BlockOf<'train'>).attributes;
      const prompts = sample === undefined ? [] : await promptsIn(resolvePath(sample.prompts, placesOfUser()));
      return { name: block.name, steps, batchSize, imagesPerStep: batchSize * gradient_accumulation_steps, prompts };
    }),
  );
}

/** None where the file cannot be read, which whoever renders them says. */
async function promptsIn(path: AbsolutePath): Promise<readonly string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return parsePrompts(text, 'euler_a').prompts.map(({ prompt }) => prompt);
}

async function captionsOf({ images }: LookedAt, lines: CaptionLines): Promise<ReadonlyMap<AbsolutePath, string>> {
  const captions = new Map<AbsolutePath, string>();
  for (const { path, captionPath, words } of images) {
    const caption =
      words === undefined ? readCaption(await readFile(captionPath), lines) : { ok: true as const, text: words };
    if (caption.ok) captions.set(path, caption.text);
  }
  return captions;
}
