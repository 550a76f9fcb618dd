// Which buckets images fall into, and what that costs them: pixels that are cropped away, or blown up.

import type { AbsolutePath } from '../../graph/graph.ts';
import { bucketSizes, type Fit, fitImage, noBucket, type Size } from '../buckets.ts';
import { type Finding, finding } from './findings.ts';
import type { DatasetSettings, LintedImage } from './lint.ts';

export interface BucketPreview {
  readonly size: Size;
  /** How many images of an epoch fall into it, repeats included. */
  readonly visits: number;
  readonly images: readonly {
    readonly path: AbsolutePath;
    /** Upright. */
    readonly size: Size;
    /** By how much it is scaled, 1 for not at all. */
    readonly scale: number;
    /** The share of its width and of its height that is cropped away, half of it on either side. */
    readonly cut: Size;
  }[];
}

/** An image that is enlarged by more than this is blurred. */
const MOST_SCALE = 1.5;
/** More than this much of a side is worth a word. */
const MOST_CUT = 0.05;

/** Every bucket that is used, the fullest first. Images that are too small for any are in none. */
export function previewBuckets(images: readonly LintedImage[], settings: DatasetSettings): readonly BucketPreview[] {
  const sizes = bucketSizes(settings.bucket);
  const fitted = images.flatMap(({ path, size, repeats }) => {
    const fit = fitImage(size, settings.bucket, sizes);
    return fit === undefined ? [] : [{ path, size, repeats: repeats ?? settings.repeats, fit }];
  });
  const groups = Map.groupBy(fitted, ({ fit }) => fit.bucket.join('x'));
  const previews = [...groups.values()].map((members): BucketPreview => {
    const { bucket } = (members[0] as { fit: Fit }).fit;
    return {
      size: bucket,
      visits: members.reduce((sum, { repeats }) => sum + repeats, 0),
      images: members.map(({ path, size, fit: { resized } }) => ({
        path,
        size,
        scale: resized[0] / size[0],
        cut: [1 - bucket[0] / resized[0], 1 - bucket[1] / resized[1]],
      })),
    };
  });
  return previews.sort((a, b) => b.visits - a.visits || a.size[0] - b.size[0] || a.size[1] - b.size[1]);
}

/** Images that a build refuses. */
export function tinyFindings(images: readonly LintedImage[], { bucket }: DatasetSettings): readonly Finding[] {
  if (bucket.upscale) return [];
  return images
    .filter(({ size }) => fitImage(size, bucket, []) === undefined)
    .map(({ path, size }) => finding('tiny', [path], noBucket(size, bucket)));
}

export function shapeFindings(
  buckets: readonly BucketPreview[],
  images: readonly LintedImage[],
  batchSize: number,
): readonly Finding[] {
  const short = buckets.filter(({ visits }) => visits < batchSize);
  const paths = short.flatMap((one) => one.images.map(({ path }) => path));
  const shortOnes =
    // Where there are not enough images for one batch, shapes are not to blame.
    short.length > 0 && buckets.length > 1 && images.length >= batchSize
      ? [finding('short-bucket', paths.sort(), `${shortText(short.length)} fewer images than a batch of ${batchSize}.`)]
      : [];
  return [
    ...buckets.flatMap(({ size, images: members }) => members.flatMap((image) => lossesOf(image, size))),
    ...shortOnes,
  ];

  function lossesOf(
    { path, size, scale, cut }: BucketPreview['images'][number],
    [width, height]: Size,
  ): readonly Finding[] {
    const found: Finding[] = [];
    if (scale > MOST_SCALE) {
      const by = `enlarged ${scale.toFixed(1)} times, to ${width}x${height}`;
      found.push(finding('small', [path], `The image has ${size.join('x')} pixels and is ${by}.`));
    }
    const [share, side] = cut[0] > cut[1] ? [cut[0], 'width'] : [cut[1], 'height'];
    if (share > MOST_CUT) {
      const ends = side === 'width' ? 'left and right' : 'top and bottom';
      const pixels = Math.round((side === 'width' ? size[0] : size[1]) * share);
      const what = `${Math.round(100 * share)} % of its ${side} (${pixels} pixels, ${ends})`;
      found.push(finding('crop', [path], `To fit ${width}x${height}, ${what} are cut off.`));
    }
    return found;
  }
}

const shortText = (count: number) => (count === 1 ? 'One bucket holds' : `${count} buckets hold`);
