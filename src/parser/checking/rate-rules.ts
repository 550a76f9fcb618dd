// What the rows of a training's rates cannot say one by one: schedules that do not fit into its steps.

import * as problem from '../diagnostics/diagnostics.ts';
import type { BlockOf } from '../model.ts';
import type { Scope } from './scope.ts';

type Train = BlockOf<'train'>;

/** The block as it finally is; `undefined` after complaining. */
export function rateRules(scope: Scope, written: Train): Train | undefined {
  const block = withoutUntrained(withOwnRates(written));
  const rules = [trainsSomething, fitsItsSteps, fallsToItsEnd, hasGoodPieces, namesItsClass, hasOneRate, isOfAdafactor];
  return rules.map((rule) => rule(scope, block)).every(Boolean) ? block : undefined;
}

/** Where the rate is found otherwise, by Prodigy or by Adafactor, those of the program are factors: 1 unless written. */
function withOwnRates(block: Train): Train {
  const { attributes, attributeSpans } = block;
  if (attributes.optimizer.kind !== 'Prodigy' && attributes.lr_scheduler.kind !== 'adafactor') return block;
  const unet_lr = attributeSpans.unet_lr === undefined ? 1 : attributes.unet_lr;
  const text_encoder_lr = attributeSpans.text_encoder_lr === undefined ? 1 : attributes.text_encoder_lr;
  return { ...block, attributes: { ...attributes, unet_lr, text_encoder_lr } };
}

/** What is not trained has a rate of 0. */
function withoutUntrained(block: Train): Train {
  const { attributes } = block;
  const unet_lr = attributes.train_unet ? attributes.unet_lr : 0;
  const text_encoder_lr = attributes.train_text_encoder ? attributes.text_encoder_lr : 0;
  return { ...block, attributes: { ...attributes, unet_lr, text_encoder_lr } };
}

function trainsSomething(scope: Scope, { attributes, attributeSpans, span }: Train): boolean {
  if (attributes.unet_lr > 0 || attributes.text_encoder_lr > 0) return true;
  const { train_unet, train_text_encoder, unet_lr, text_encoder_lr } = attributeSpans;
  scope.report(problem.nothingToTrain(train_unet ?? unet_lr ?? train_text_encoder ?? text_encoder_lr ?? span));
  return false;
}

/** Its estimate is one for everything. */
function hasOneRate(scope: Scope, { attributes, attributeSpans, span }: Train): boolean {
  const { optimizer, unet_lr, text_encoder_lr, block_lr, loraplus_lr_ratio } = attributes;
  if (optimizer.kind !== 'Prodigy') return true;
  if (loraplus_lr_ratio !== 1 || Object.keys(block_lr).length > 0) {
    const name = loraplus_lr_ratio === 1 ? 'block_lr' : 'loraplus_lr_ratio';
    scope.report(problem.prodigyFactors(attributeSpans[name] ?? span, name));
    return false;
  }
  const place = attributeSpans.text_encoder_lr ?? attributeSpans.unet_lr ?? span;
  if (unet_lr > 0 && text_encoder_lr > 0 && unet_lr !== text_encoder_lr) {
    scope.report(problem.prodigyRates(place, unet_lr, text_encoder_lr));
    return false;
  }
  const rate = Math.max(unet_lr, text_encoder_lr);
  if (rate > 0 && rate < 0.01) scope.report(problem.smallProdigyRate(attributeSpans.unet_lr ?? place, rate));
  return true;
}

/** The schedule is a part of that optimizer, and means rates of its size. */
function isOfAdafactor(scope: Scope, { attributes, attributeSpans, span }: Train): boolean {
  const { lr_scheduler, optimizer, unet_lr, text_encoder_lr } = attributes;
  if (lr_scheduler.kind !== 'adafactor') return true;
  const place = attributeSpans.lr_scheduler ?? span;
  if (optimizer.kind !== 'Adafactor') {
    scope.report(problem.adafactorSchedule(place, optimizer.kind, attributeSpans.optimizer ?? span));
    return false;
  }
  const rate = Math.max(unet_lr, text_encoder_lr);
  const written = attributeSpans.unet_lr ?? attributeSpans.text_encoder_lr;
  if (rate > 0 && rate < 0.01 && written !== undefined) scope.report(problem.smallAdafactorRate(written, rate));
  return true;
}

function namesItsClass(scope: Scope, { attributes, attributeSpans, span }: Train): boolean {
  const { optimizer, lr_scheduler } = attributes;
  const named = [
    { setting: optimizer, place: attributeSpans.optimizer, example: 'torch.optim.RAdam' },
    { setting: lr_scheduler, place: attributeSpans.lr_scheduler, example: 'torch.optim.lr_scheduler.OneCycleLR' },
  ];
  const bad = named.flatMap(({ setting, place, example }) => {
    if (setting.kind !== 'python' || /^[^\W\d]\w*(?:\.[^\W\d]\w*)+$/u.test(setting.class)) return [];
    return [problem.className(place ?? span, setting.class, example)];
  });
  for (const one of bad) scope.report(one);
  return bad.length === 0;
}

const placeOfSchedule = (block: Train) => block.attributeSpans.lr_scheduler ?? block.span;

function fitsItsSteps(scope: Scope, block: Train): boolean {
  const { lr_scheduler, steps } = block.attributes;
  const amounts = {
    ...('warmup' in lr_scheduler && { warmup: lr_scheduler.warmup }),
    ...('decay' in lr_scheduler && { decay: lr_scheduler.decay }),
  };
  const parts = Object.entries(amounts)
    .map(([name, amount]) => ({ name, steps: countSteps(amount, steps) }))
    .filter((part) => part.steps > 0);
  const total = parts.reduce((sum, part) => sum + part.steps, 0);
  if (total <= steps) return true;
  scope.report(problem.scheduleLength(placeOfSchedule(block), parts, steps));
  return false;
}

/** As sd-scripts counts, and the worker: a share is cut to whole steps. */
function countSteps(stepsOrShare: number, steps: number): number {
  return stepsOrShare < 1 ? Math.trunc(stepsOrShare * steps) : stepsOrShare;
}

function fallsToItsEnd(scope: Scope, block: Train): boolean {
  const { lr_scheduler, unet_lr, text_encoder_lr } = block.attributes;
  if (lr_scheduler.kind !== 'polynomial') return true;
  const { lr_end } = lr_scheduler;
  const rates = Object.entries({ unet_lr, text_encoder_lr });
  const low = rates.find(([, value]) => value > 0 && value <= lr_end);
  if (low === undefined) return true;
  scope.report(problem.rateEnd(placeOfSchedule(block), lr_end, { name: low[0], value: low[1] }));
  return false;
}

function hasGoodPieces(scope: Scope, block: Train): boolean {
  const { lr_scheduler } = block.attributes;
  if (lr_scheduler.kind !== 'piecewise_constant') return true;
  const pieces = lr_scheduler.step_rules.split(',');
  const complain = (piece: string, why: string) => {
    scope.report(problem.stepRules(placeOfSchedule(block), piece.trim(), why));
    return false;
  };
  let before = 0;
  for (const piece of pieces.slice(0, -1)) {
    const step = Number(/^\s*(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*:\s*(\d+)\s*$/i.exec(piece)?.[1]);
    if (Number.isNaN(step)) return complain(piece, 'is not a factor, a colon and a step');
    if (step <= before) return complain(piece, `does not end behind step ${before}, where the piece before it ends`);
    before = step;
  }
  const last = pieces.at(-1) ?? '';
  if (/^\s*(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*$/i.test(last)) return true;
  return complain(last, 'is not the last factor, a number without a step');
}
