// What the attributes of a training have to do with each other. Each rule complains.

import * as problem from './diagnostics.ts';
import type { BlockOf } from './model.ts';
import type { Scope } from './scope.ts';

/** The block, or `undefined` after complaining. */
export function trainingRules(scope: Scope, block: BlockOf<'train'>): BlockOf<'train'> | undefined {
  const rules = [thresholdRule];
  return rules.map((rule) => rule(scope, block)).every(Boolean) ? block : undefined;
}

/** The threshold of the schedule `snr` follows from c alone. */
function thresholdRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { loss } = attributes;
  if (!('scale' in loss) || loss.schedule !== 'snr' || loss.scale === 1) return true;
  scope.report(problem.scaleOfSnr(attributeSpans.loss ?? span, loss));
  return false;
}
