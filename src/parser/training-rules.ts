// What the attributes of a training have to do with each other. Each rule complains.

import * as problem from './diagnostics.ts';
import type { BlockOf } from './model.ts';
import type { Scope } from './scope.ts';

/** The block, or `undefined` after complaining. */
export function trainingRules(scope: Scope, block: BlockOf<'train'>): BlockOf<'train'> | undefined {
  const rules = [thresholdRule, heldOutRule, predictionRule, weightRule];
  return rules.map((rule) => rule(scope, block)).every(Boolean) ? block : undefined;
}

/** The threshold of the schedule `snr` follows from c alone. */
function thresholdRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { loss } = attributes;
  if (!('scale' in loss) || loss.schedule !== 'snr' || loss.scale === 1) return true;
  scope.report(problem.scaleOfSnr(attributeSpans.loss ?? span, loss));
  return false;
}

/** Either images of another dataset, or a share of the training's own. */
function heldOutRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { validation, data } = attributes;
  const place = attributeSpans.validation ?? span;
  if (validation === undefined) return true;
  if (validation.data !== undefined && validation.share !== undefined) {
    scope.report(problem.heldOutImages(place));
    return false;
  }
  if (validation.data?.block !== data.block) return true;
  scope.report(problem.heldOutLearned(validation.data.span, data.block));
  return false;
}

/** One is for checkpoints that predict v, the other for those that predict noise. */
function predictionRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  if (!attributes.scale_v_pred_loss_like_noise_pred || attributes.v_pred_like_loss === 0) return true;
  const places = [attributeSpans.scale_v_pred_loss_like_noise_pred, attributeSpans.v_pred_like_loss];
  scope.report(problem.bothPredictions(places[1] ?? span, places[0] ?? span));
  return false;
}

function weightRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  if (attributes.min_snr_gamma !== undefined && attributes.debiased_estimation) {
    scope.report(problem.twoWeights(attributeSpans.debiased_estimation ?? span, attributeSpans.min_snr_gamma ?? span));
  }
  return true;
}
