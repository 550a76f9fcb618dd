// What the attributes of a training have to do with each other. Each rule complains.

import * as problem from '../diagnostics/diagnostics.ts';
import type { BlockOf } from '../model.ts';
import { isRendezvous } from '../schema/launch.ts';
import { takeCare } from './care-rules.ts';
import { firstOddStep } from './schedules.ts';
import type { Scope } from './scope.ts';

/** The block, or `undefined` after complaining. */
export function trainingRules(scope: Scope, block: BlockOf<'train'>): BlockOf<'train'> | undefined {
  const rules = [
    regularizationRule,
    batchesRule,
    thresholdRule,
    heldOutRule,
    predictionRule,
    weightRule,
    strengthRule,
    timestepRule,
    lengthRule,
    scalarRule,
    clipRule,
    roundingRule,
    compileRule,
    rendezvousRule,
  ];
  takeCare(scope, block);
  return rules.map((rule) => rule(scope, block)).every(Boolean) ? block : undefined;
}

/** Masks of dropouts are other ones at each step, so code that is compiled once has no place for them. */
function compileRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { compile, network } = attributes;
  const chances = [network.dropout, network.module_dropout, 'rank_dropout' in network ? network.rank_dropout : 0];
  if (!compile || chances.every((chance) => chance === 0)) return true;
  scope.report(problem.idleCompile(attributeSpans.compile ?? span, attributeSpans.network ?? span));
  return true;
}

/** Numbers of 32 bits, computed with weights of 8. */
function roundingRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { fp8_base, mixed_precision } = attributes;
  if (fp8_base === 'off' || mixed_precision !== 'fp32') return true;
  scope.report(problem.coarseWeights(attributeSpans.fp8_base ?? span, attributeSpans.mixed_precision ?? span));
  return true;
}

/** What gradients are clipped to is a size, at every step that the training comes to. */
function clipRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { optimizer, steps } = attributes;
  if (optimizer.kind !== 'SAVEUS' || !optimizer.clip_gradients) return true;
  const schedule = optimizer.clip_lambda;
  const odd = firstOddStep(schedule, steps);
  if (odd === undefined) return true;
  const place = typeof schedule === 'object' ? scope.schedulePlaces.get(schedule) : undefined;
  scope.report(problem.oddSchedule(place ?? attributeSpans.optimizer ?? span, 'clip_lambda', odd));
  return false;
}

/** The same images cannot be what is learned and what is kept. */
function regularizationRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { data, regularization, prior_loss_weight } = attributes;
  if (regularization === undefined) {
    const written = attributeSpans.prior_loss_weight;
    if (written && prior_loss_weight !== 1) scope.report(problem.idlePriorWeight(written));
    return true;
  }
  if (regularization.block !== data.block) return true;
  scope.report(problem.sameImages(attributeSpans.regularization ?? span, data.block, attributeSpans.data ?? span));
  return false;
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

/** What changes a strength has nothing to change where there is none. */
function strengthRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { noise_offset, ip_noise_gamma } = attributes;
  const needy = [
    { name: 'noise_offset_random_strength', of: 'noise_offset', strength: noise_offset },
    { name: 'adaptive_noise_scale', of: 'noise_offset', strength: noise_offset },
    { name: 'ip_noise_gamma_random_strength', of: 'ip_noise_gamma', strength: ip_noise_gamma },
  ] as const;
  const idle = needy.filter(({ name, strength }) => strength === 0 && Boolean(attributes[name]));
  for (const { name, of } of idle) scope.report(problem.noStrength(attributeSpans[name] ?? span, name, of));
  return idle.length === 0;
}

function timestepRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { min_timestep, max_timestep } = attributes;
  if (min_timestep < max_timestep) return true;
  const place = attributeSpans.min_timestep ?? attributeSpans.max_timestep ?? span;
  scope.report(problem.timestepOrder(place, min_timestep, max_timestep));
  return false;
}

/** Which regularization images an epoch has differs from epoch to epoch, so batches by bucket would too. */
function batchesRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { accumulation, parity, regularization } = attributes;
  const { accumulation: written } = attributeSpans;
  const isByBucket = accumulation === 'sd_scripts' || (parity === 'sd_scripts' && written === undefined);
  if (!isByBucket || regularization === undefined) return true;
  scope.report(problem.batchesOfRegularization(written ?? attributeSpans.parity ?? span, written));
  return false;
}

/** Where ΔW has no two factors, or is not what an adapter does, there is nothing that could be shortened. */
function lengthRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { scale_weight_norms, network } = attributes;
  if (scale_weight_norms === undefined || network.kind === 'locon' || network.kind === 'lokr') return true;
  scope.report(
    problem.noWeightNorms(attributeSpans.scale_weight_norms ?? span, network.kind, attributeSpans.network ?? span),
  );
  return false;
}

/** SAVEUS takes that part of its mean from a gradient, and one number is its mean: nothing would be left. */
function scalarRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { network, optimizer } = attributes;
  const isStill = optimizer.kind === 'SAVEUS' && optimizer.centralization === 1;
  if (!isStill || !('use_scalar' in network) || !network.use_scalar) return true;
  scope.report(problem.stillScalars(attributeSpans.network ?? span, attributeSpans.optimizer ?? span));
  return false;
}

/** Machines have to know where they meet; one alone meets nobody. */
function rendezvousRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'train'>): boolean {
  const { launch } = attributes;
  if (launch.kind === 'single') return true;
  const { machines, rendezvous } = launch;
  const isRight = machines === 1 ? rendezvous === undefined : rendezvous !== undefined && isRendezvous(rendezvous);
  if (!isRight) scope.report(problem.oddRendezvous(attributeSpans.launch ?? span, machines, rendezvous));
  return isRight;
}
