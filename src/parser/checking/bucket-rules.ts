// What the sizes of buckets have to do with each other and with the resolution. Each rule complains.

import * as problem from '../diagnostics/diagnostics.ts';
import type { BlockOf } from '../model.ts';
import { schema } from '../schema/schema.ts';
import type { Scope } from './scope.ts';

const usual = schema.dataset.bucket.default;

export function bucketRules(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'dataset'>): boolean {
  const { bucket, resolution } = attributes;
  const place = attributeSpans.bucket ?? attributeSpans.resolution ?? span;
  if (bucket.min > bucket.max) {
    scope.report(problem.bucketOrder('bucket', place, bucket));
    return false;
  }
  const side = Math.floor(Math.sqrt(resolution.width * resolution.height));
  if (bucket.step > side) {
    scope.report(problem.bucketStep(place, bucket.step, side));
    return false;
  }
  if (bucket.upscale) {
    if (bucket.min > side || bucket.max < side) scope.report(problem.squareOnly(place, bucket, side));
    return true;
  }
  const idle = (['min', 'max', 'distance'] as const).filter((name) => bucket[name] !== usual?.[name]);
  if (idle.length > 0) scope.report(problem.idleBucket(place, idle));
  return true;
}
