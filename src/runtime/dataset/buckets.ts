// Aspect-ratio buckets as sd-scripts has them, so that a dataset falls into the same shapes here as there:
// images are scaled to cover a bucket and cropped to it at the centre. All sizes are in pixels, width first.

export type Size = readonly [width: number, height: number];

export interface BucketSettings {
  /** Only its area counts. */
  readonly resolution: Size;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  /** Whether small images are enlarged. Where not, an image keeps its size, cut down to whole steps. */
  readonly upscale: boolean;
  /** Of the ratios of width to height: their difference, or that of their logarithms. */
  readonly distance: 'ratio' | 'log_ratio';
}

/** How one image gets into its bucket: resized to `resized`, then cropped from `crop` (left, top). */
export interface Fit {
  readonly bucket: Size;
  readonly resized: Size;
  readonly crop: Size;
}

/** Every bucket there is when images may be enlarged, by width, then height. */
export function bucketSizes(settings: BucketSettings): readonly Size[] {
  const { step } = settings;
  const area = areaOf(settings);
  const min = floorTo(settings.min, step);
  const max = Math.ceil(settings.max / step) * step;
  const square = floorTo(Math.floor(Math.sqrt(area)), step);
  const sizes = new Map<string, Size>();
  const add = (width: number, height: number) => sizes.set(`${width}x${height}`, [width, height]);
  add(square, square);
  for (let side = min; side <= max; side += step) {
    const other = Math.min(max, floorTo(Math.floor(area / side), step));
    if (other < min) continue;
    add(side, other);
    add(other, side);
  }
  return [...sizes.values()].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
}

/**
 * Chooses the bucket of an image. `sizes` is what `bucketSizes` gave. Nothing where images are not enlarged and a side
 * has less than one step.
 */
export function fitImage(image: Size, settings: BucketSettings, sizes: readonly Size[]): Fit | undefined {
  const { bucket, resized } = settings.upscale ? fitCovering(image, settings, sizes) : fitKeeping(image, settings);
  if (!bucket.every((side) => side >= settings.step)) return undefined;
  const crop = [Math.floor((resized[0] - bucket[0]) / 2), Math.floor((resized[1] - bucket[1]) / 2)] as const;
  return { bucket, resized, crop };
}

/** What is wrong with an image that no bucket fits. */
export function noBucket(image: Size, { step }: BucketSettings): string {
  return `The image has ${image.join('x')} pixels, which leaves a side with less than ${step}, and small images are not enlarged.`;
}

interface Resizing {
  readonly bucket: Size;
  readonly resized: Size;
}

function fitCovering(image: Size, { distance }: BucketSettings, sizes: readonly Size[]): Resizing {
  const [width, height] = image;
  const ratio = width / height;
  const bucket =
    sizes.find((size) => size[0] === width && size[1] === height) ?? nearest(sizes, errors[distance](ratio));
  const scale = ratio > bucket[0] / bucket[1] ? bucket[1] / height : bucket[0] / width;
  return { bucket, resized: [round(width * scale), round(height * scale)] };
}

/** How far a bucket is from an image of that ratio. The plain difference, as sd-scripts has it, favours portrait shapes. */
const errors = {
  ratio: (image: number) => (bucket: number) => Math.abs(bucket - image),
  log_ratio: (image: number) => (bucket: number) => Math.abs(Math.log(bucket / image)),
} as const;

/** The first of equals. */
function nearest(sizes: readonly Size[], error: (ratio: number) => number): Size {
  let found = sizes[0] as Size;
  let smallest = Number.POSITIVE_INFINITY;
  for (const size of sizes) {
    const one = error(size[0] / size[1]);
    if (one < smallest) {
      smallest = one;
      found = size;
    }
  }
  return found;
}

function fitKeeping(image: Size, settings: BucketSettings): Resizing {
  const resized = areaOf(settings) < image[0] * image[1] ? shrink(image, settings) : image;
  return { bucket: [floorTo(resized[0], settings.step), floorTo(resized[1], settings.step)], resized };
}

/** Down to the area, one side on a whole step: the side that disturbs the ratio less. */
function shrink(image: Size, settings: BucketSettings): Size {
  const { step } = settings;
  const ratio = image[0] / image[1];
  const idealWidth = Math.sqrt(areaOf(settings) * ratio);
  const idealHeight = areaOf(settings) / idealWidth;
  const width = floorTo(round(idealWidth), step);
  const height = floorTo(round(idealHeight), step);
  const byWidth = width / floorTo(round(width / ratio), step);
  const byHeight = floorTo(round(height * ratio), step) / height;
  return Math.abs(byWidth - ratio) < Math.abs(byHeight - ratio)
    ? [width, round(width / ratio)]
    : [round(height * ratio), height];
}

function areaOf({ resolution }: BucketSettings): number {
  return resolution[0] * resolution[1];
}

function floorTo(value: number, step: number): number {
  return value - (value % step);
}

function round(value: number): number {
  return Math.floor(value + 0.5);
}
