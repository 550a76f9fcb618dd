// Buckets against what sd-scripts chose for the same settings and image sizes.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type BucketSettings,
  bucketSizes,
  type Fit,
  fitImage,
  type Size,
} from '../../../src/runtime/dataset/buckets.ts';

interface Golden {
  readonly resolution: Size;
  readonly min_bucket_reso: number;
  readonly max_bucket_reso: number;
  readonly bucket_reso_steps: number;
  readonly bucket_no_upscale: boolean;
  readonly predefined?: readonly Size[];
  readonly images: readonly { readonly image: Size; readonly bucket: Size; readonly resized: Size }[];
}

const golden: readonly Golden[] = JSON.parse(readFileSync('test/fixtures/golden/buckets.json', 'utf8'));

describe.each(golden.map((group, index) => ({ index, group })))('setting $index', ({ group }) => {
  const settings: BucketSettings = {
    resolution: group.resolution,
    min: group.min_bucket_reso,
    max: group.max_bucket_reso,
    step: group.bucket_reso_steps,
    upscale: !group.bucket_no_upscale,
    distance: 'ratio',
  };
  const sizes = bucketSizes(settings);

  test('the buckets are the same, in the same order', () => {
    if (group.predefined && settings.upscale) expect(sizes).toEqual(group.predefined);
  });

  test('every image gets the same bucket and the same size', () => {
    for (const { image, bucket, resized } of group.images) {
      const ours = fitImage(image, settings, sizes);
      // Where sd-scripts makes a bucket without pixels, there is none here.
      if (bucket.includes(0)) expect(ours, `${image}`).toBeUndefined();
      else expect(ours, `${image}`).toMatchObject({ bucket, resized });
    }
  });
});

const guide: BucketSettings = {
  resolution: [1024, 1024],
  min: 256,
  max: 2048,
  step: 32,
  upscale: true,
  distance: 'ratio',
};

test('the crop takes the same off both sides', () => {
  const sizes = bucketSizes(guide);
  expect(fitImage([1000, 600], guide, sizes)).toEqual({ bucket: [1312, 768], resized: [1312, 787], crop: [0, 9] });
  expect(fitImage([768, 1024], guide, sizes)).toEqual({ bucket: [864, 1184], resized: [888, 1184], crop: [12, 0] });
});

test('a resized image covers its bucket, whatever its size', () => {
  const sizes = bucketSizes(guide);
  const side = fc.integer({ min: 8, max: 20_000 });
  fc.assert(
    fc.property(side, side, (width, height) => {
      const { bucket, resized, crop } = fitImage([width, height], guide, sizes) as Fit;
      for (const axis of [0, 1] as const) {
        expect(resized[axis]).toBeGreaterThanOrEqual(bucket[axis]);
        expect(crop[axis] + bucket[axis]).toBeLessThanOrEqual(resized[axis]);
        expect(bucket[axis] % 32).toBe(0);
      }
    }),
  );
});

test('by the logarithm of ratios, an image that is turned has the bucket that is turned', () => {
  const sizes = bucketSizes(guide);
  const turned = (size: Size): Size => [size[1], size[0]];
  const bucketOf = (size: Size, distance: BucketSettings['distance']) =>
    fitImage(size, { ...guide, distance }, sizes)?.bucket as Size;
  const odd: Size[] = [];
  for (let width = 300; width < 1000; width += 1) {
    const size: Size = [width, 1000];
    expect(bucketOf(turned(size), 'log_ratio'), `${size}`).toEqual(turned(bucketOf(size, 'log_ratio')));
    const isTurned = `${bucketOf(turned(size), 'ratio')}` === `${turned(bucketOf(size, 'ratio'))}`;
    if (!isTurned) odd.push(size);
  }
  expect(odd.length).toBeGreaterThan(0);
});

test('without enlarging, an image keeps its size and loses less than a step on each side', () => {
  const keeping = { ...guide, upscale: false };
  const kept = (size: Size) => fitImage(size, keeping, []);
  expect(kept([500, 333])).toEqual({ bucket: [480, 320], resized: [500, 333], crop: [10, 6] });
  expect(kept([31, 500])).toBeUndefined();
  expect(kept([32, 32])).toEqual({ bucket: [32, 32], resized: [32, 32], crop: [0, 0] });
  // So long that at the area of the resolution nothing is left of its height.
  expect(kept([200_000, 40])).toBeUndefined();
  const side = fc.integer({ min: 8, max: 20_000 });
  fc.assert(
    fc.property(side, side, (width, height) => {
      const found = kept([width, height]);
      if (found === undefined) return;
      for (const axis of [0, 1] as const) {
        expect(found.resized[axis] - found.bucket[axis]).toBeGreaterThanOrEqual(0);
        expect(found.resized[axis] - found.bucket[axis]).toBeLessThan(32);
        expect(found.resized[axis]).toBeLessThanOrEqual([width, height][axis] as number);
      }
    }),
  );
});
