// Which images a dataset has, how each is to be resized and cropped, and what its caption is.
// Captions are an output of their own, so that an edited one leaves the latents alone, and so are images as they are for
// those who leave EXIF's orientation aside: `images.as-stored`. None holds a path, so that renaming changes nothing.

import { writeFile } from 'node:fs/promises';
import { digestOf } from '../cache/digest.ts';
import { type BucketSettings, bucketSizes, type Fit, fitImage, noBucket, type Size } from '../dataset/buckets.ts';
import type { CaptionLines, CaptionMissing } from '../dataset/captions.ts';
import type { ImagePattern } from '../dataset/find-images.ts';
import { turned } from '../dataset/image-facts.ts';
import type { MaskSource } from '../dataset/masks.ts';
import { captionText, type SurveyedImage, surveyImages } from '../dataset/survey.ts';
import { StageFailure } from '../events.ts';
import type { GraphNode } from '../graph/graph.ts';
import type { Json } from '../graph/json.ts';
import { pathIn } from '../graph/paths.ts';
import type { Stage } from '../stage.ts';

/** One image in the output `images`, which is a list of these. `captions` is a list of texts in the same order. */
export interface ManifestImage {
  readonly digest: string;
  /** Tells equal images apart: 0 for the first. */
  readonly index: number;
  /** Width and height before resizing: when upright, or as stored. */
  readonly original: Size;
  readonly resized: Size;
  /** Left and top of the bucket within the resized image. */
  readonly crop: Size;
  readonly bucket: Size;
  readonly repeats: number;
  /** What says how much each place counts: the image's own alpha, or the picture with that digest. Left out: all does. */
  readonly mask?: 'alpha' | string;
}

export const manifest: Stage = {
  name: 'manifest',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  runsInPlan: true,

  async survey({ node, store, signal, say }) {
    const { dataset, images: patterns, caption_extension: captionExtension, masks } = readSettings(node);
    const images = await surveyImages({
      dataset,
      patterns,
      captionExtension,
      folders: readSettings(node).folders,
      captionLines: linesOf(node),
      captionMissing: readSettings(node).caption_missing,
      ...(masks && { masks }),
      files: store.files,
      signal,
      say,
    });
    if (!readAttributes(node).bucket.upscale) refuseTiny(images, node);
    return {
      digests: {
        images: digestOf(images.map((image) => factsOf(image, node).join(' ')).join('\n')),
        captions: digestOf(images.map(({ caption }) => caption).join('\n')),
      },
      images,
    };
  },

  /** What came later is left out where it is as it was before, so that datasets of before are the same. */
  canonical({ bucket, ...others }) {
    const { upscale, distance, ...shape } = bucket as { readonly [name: string]: Json };
    const later = { ...(upscale === false && { upscale }), ...(distance !== 'ratio' && { distance }) };
    return { ...others, bucket: { ...shape, ...later } };
  },

  async run({ node, survey, work }) {
    if (survey === undefined) throw new Error('Internal error: a manifest without a survey.');
    const outputs = {
      images: pathIn(work, 'images.json'),
      'images.as-stored': pathIn(work, 'images-as-stored.json'),
      captions: pathIn(work, 'captions.json'),
    };
    await writeFile(outputs.images, JSON.stringify(fitImages(survey.images, node)));
    const asStored = survey.images.map((image) => ({ ...image, size: turned(image.size, image.orientation) }));
    await writeFile(outputs['images.as-stored'], JSON.stringify(fitImages(asStored, node)));
    await writeFile(outputs.captions, JSON.stringify(await captionsOf(survey.images, linesOf(node))));
    return { outputs };
  },
};

/** Before anything runs, all of them at once. Images that may be enlarged always find a bucket. */
function refuseTiny(images: readonly SurveyedImage[], node: GraphNode): void {
  const { bucket } = readAttributes(node);
  const tiny = images.filter(({ size, orientation }) =>
    [size, turned(size, orientation)].some((one) => fitImage(one, bucket, []) === undefined),
  );
  if (tiny.length === 0) return;
  throw new StageFailure({
    kind: 'bad-input',
    message: `The dataset "${readSettings(node).dataset}" has ${tiny.length === 1 ? 'an image' : `${tiny.length} images`} too small for its buckets.`,
    hint: 'Find larger originals, take them out of the folder, or write upscale = true in bucket = { … }.',
    problems: tiny.map(({ path, size }) => ({ path, message: noBucket(size, bucket) })),
  });
}

/** What the images output follows from. */
function factsOf(image: SurveyedImage, node: GraphNode): readonly string[] {
  const { digest, repeats } = image;
  const mask = maskOf(image, node);
  return [digest, ...(repeats === undefined ? [] : [String(repeats)]), ...(mask === undefined ? [] : [`mask ${mask}`])];
}

/** An image without alpha counts everywhere, as it does without a mask. */
function maskOf({ mask, traits }: SurveyedImage, node: GraphNode): string | undefined {
  return readSettings(node).alpha_mask && traits.includes('alpha') ? 'alpha' : mask?.digest;
}

function fitImages(images: readonly SurveyedImage[], node: GraphNode): readonly ManifestImage[] {
  const { repeats, bucket: settings } = readAttributes(node);
  const sizes = bucketSizes(settings);
  const seen = new Map<string, number>();
  return images.map((image) => {
    const { digest, size, repeats: own } = image;
    const mask = maskOf(image, node);
    const index = seen.get(digest) ?? 0;
    seen.set(digest, index + 1);
    // The survey has refused images without one.
    const { bucket, resized, crop } = fitImage(size, settings, sizes) as Fit;
    const fitted = { digest, index, original: size, resized, crop, bucket, repeats: own ?? repeats };
    return mask === undefined ? fitted : { ...fitted, mask };
  });
}

async function captionsOf(images: readonly SurveyedImage[], lines: CaptionLines): Promise<readonly string[]> {
  const captions: string[] = [];
  for (const image of images) captions.push(await captionText(image, lines));
  return captions;
}

function readSettings({ settings }: GraphNode) {
  return settings as unknown as {
    readonly dataset: string;
    readonly images: readonly ImagePattern[];
    readonly caption_extension: string;
    readonly folders: 'flat' | 'kohya';
    readonly caption_missing: CaptionMissing;
    readonly wildcards: boolean;
    readonly alpha_mask?: true;
    readonly masks?: MaskSource;
  };
}

/** With wildcards, each visit picks one of the lines of a caption file. */
function linesOf(node: GraphNode): CaptionLines {
  return readSettings(node).wildcards ? 'all' : 'first';
}

function readAttributes({ attributes }: GraphNode): { readonly bucket: BucketSettings; readonly repeats: number } {
  const { resolution, bucket, repeats } = attributes as unknown as {
    readonly resolution: Size;
    readonly bucket: Pick<BucketSettings, 'min' | 'max' | 'step'> & Partial<BucketSettings>;
    readonly repeats: number;
  };
  return { bucket: { upscale: true, distance: 'ratio', ...bucket, resolution }, repeats };
}
