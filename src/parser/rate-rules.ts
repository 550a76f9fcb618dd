// What the rows of a training's rates cannot say one by one: schedules that do not fit into its steps.

import * as problem from './diagnostics.ts';
import type { BlockOf, CheckedBlock } from './model.ts';
import type { Scope } from './scope.ts';

type Train = BlockOf<'train'>;

/** The block as it finally is; `undefined` after complaining. */
export function rateRules(scope: Scope, block: Train): CheckedBlock | undefined {
  return fitsItsSteps(scope, block) && fallsToItsEnd(scope, block) && hasGoodPieces(scope, block) ? block : undefined;
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
