// What is odd about a dataset, found before a training spends hours on it. Works on what was read from the files and
// reads nothing itself.

import type { Digest } from '../../cache/digest.ts';
import type { AbsolutePath } from '../../graph/graph.ts';
import type { BucketSettings, Size } from '../buckets.ts';
import { turned } from '../image-facts.ts';
import type { PixelLook } from '../pixel-look.ts';
import type { LookedAt, SurveyedImage } from '../survey.ts';
import { captionFindings, promptFindings } from './captions.ts';
import { type Finding, finding, findingCodes } from './findings.ts';
import { pictureFindings } from './pictures.ts';
import { type BucketPreview, previewBuckets, shapeFindings, tinyFindings } from './shapes.ts';

export interface LintInput {
  readonly dataset: string;
  readonly looked: LookedAt;
  /** By the path of the image. */
  readonly captions: ReadonlyMap<AbsolutePath, string>;
  /** What is known of pixels, by the digest of the image. May lack any. */
  readonly looks: ReadonlyMap<Digest, PixelLook>;
  readonly settings: DatasetSettings;
  readonly trainings: readonly TrainingPlan[];
}

export interface DatasetSettings {
  readonly bucket: BucketSettings;
  readonly repeats: number;
  /** EXIF's orientation is left aside. */
  readonly asStored: boolean;
  /** The program says what becomes of transparent pixels. */
  readonly alphaIsMeant: boolean;
}

/** What a training that uses the dataset does with it. */
export interface TrainingPlan {
  readonly name: string;
  readonly steps: number;
  readonly batchSize: number;
  readonly imagesPerStep: number;
  /** What its pictures on the way are asked for; empty where there are none. */
  readonly prompts: readonly string[];
}

export interface LintReport {
  readonly dataset: string;
  /** Files that were found, usable or not. */
  readonly images: number;
  /** Those whose pixels have been looked at. */
  readonly lookedAt: number;
  /** Sorted by code, then by file. */
  readonly findings: readonly Finding[];
  readonly buckets: readonly BucketPreview[];
  readonly trainings: readonly (Omit<TrainingPlan, 'prompts'> & {
    /** Images that pass through the network in all. */
    readonly visits: number;
    /** How often each image is seen, repeats included. */
    readonly epochs: number;
    readonly stepsPerEpoch: number;
  })[];
}

/** An image that can be read, with or without a caption. */
export type LintedImage = Omit<SurveyedImage, 'caption'>;

/** How many images an epoch has, repeats included. */
function visitsOf(images: readonly LintedImage[], settings: DatasetSettings): number {
  return images.reduce((sum, { repeats }) => sum + (repeats ?? settings.repeats), 0);
}

export function lintDataset(input: LintInput): LintReport {
  const { dataset, looked, looks, settings } = input;
  const images: readonly LintedImage[] = [...looked.images, ...looked.uncaptioned]
    .map((image) => (settings.asStored ? { ...image, size: turned(image.size, image.orientation) } : image))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const buckets = previewBuckets(images, settings);
  const visitsPerEpoch = visitsOf(images, settings);
  const trainings = input.trainings.map(({ prompts: _, ...training }) => {
    const visits = training.steps * training.imagesPerStep;
    return {
      ...training,
      visits,
      epochs: visitsPerEpoch === 0 ? 0 : visits / visitsPerEpoch,
      stepsPerEpoch: visitsPerEpoch / training.imagesPerStep,
    };
  });
  const findings = [
    ...looked.problems.map(({ code, path, message }) => finding(code, [path as AbsolutePath], message)),
    ...pictureFindings(images, looks, settings),
    ...captionFindings(input.captions),
    ...promptFindings(input.captions, input.trainings),
    ...tinyFindings(images, settings),
    ...shapeFindings(buckets, images, Math.max(0, ...trainings.map((one) => one.batchSize))),
    ...trainings
      .filter(({ epochs }) => epochs > 0 && epochs < 1)
      .map(({ name, visits }) =>
        finding(
          'few-visits',
          [],
          `"${name}" sees ${visits} of ${visitsPerEpoch} images: it ends within its first epoch.`,
        ),
      ),
  ];
  const unreadable = new Set(looked.problems.filter(({ code }) => code === 'unreadable').map(({ path }) => path));
  return {
    dataset,
    images: images.length + unreadable.size,
    lookedAt: images.filter(({ digest }) => looks.has(digest)).length,
    findings: inOrder(findings),
    buckets,
    trainings,
  };
}

function inOrder(findings: readonly Finding[]): readonly Finding[] {
  const place = (one: Finding) => findingCodes.indexOf(one.code);
  const file = (one: Finding) => one.files[0] ?? '';
  return findings.toSorted((a, b) => place(a) - place(b) || (file(a) < file(b) ? -1 : file(a) > file(b) ? 1 : 0));
}

export type { BucketPreview, Size };
