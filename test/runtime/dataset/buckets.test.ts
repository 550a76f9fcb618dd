// Buckets against what sd-scripts chose for the same settings and image sizes.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BucketSettings, bucketSizes, fitImage, type Size } from '../../../src/runtime/dataset/buckets.ts';

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
  };
  const sizes = bucketSizes(settings);

  test('the buckets are the same, in the same order', () => {
    if (group.predefined && settings.upscale) expect(sizes).toEqual(group.predefined);
  });

  test('every image gets the same bucket and the same size', () => {
    const ours = group.images.map(({ image }) => ({ image, ...fitImage(image, settings, sizes) }));
    expect(ours.map(({ image, bucket, resized }) => ({ image, bucket, resized }))).toEqual(
      group.images.map(({ image, bucket, resized }) => ({ image, bucket, resized })),
    );
  });
});

const guide: BucketSettings = { resolution: [1024, 1024], min: 256, max: 2048, step: 32, upscale: true };

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
      const { bucket, resized, crop } = fitImage([width, height], guide, sizes);
      for (const axis of [0, 1] as const) {
        expect(resized[axis]).toBeGreaterThanOrEqual(bucket[axis]);
        expect(crop[axis] + bucket[axis]).toBeLessThanOrEqual(resized[axis]);
        expect(bucket[axis] % 32).toBe(0);
      }
    }),
  );
});
