// What a program says a checkpoint predicts, and what has to fit it. Each rule complains.

import * as problem from '../diagnostics/diagnostics.ts';
import type { BlockOf, CheckedBlock } from '../model.ts';
import type { Scope } from './scope.ts';

/** A model that predicts noise learns nothing where there is noise alone. */
export function processRule(scope: Scope, block: BlockOf<'checkpoint'>): BlockOf<'checkpoint'> {
  const { prediction, zero_terminal_snr } = block.attributes;
  if (prediction === 'epsilon' && zero_terminal_snr === 'on') {
    scope.report(problem.snrOfEpsilon(block.attributeSpans.zero_terminal_snr ?? block.span));
  }
  return block;
}

/** Losses that are for one kind of prediction, where the checkpoint is said to have the other. */
export function checkPredictions(scope: Scope, blocks: readonly CheckedBlock[]): void {
  const checkpoints = new Map(blocks.flatMap((block) => (block.kind === 'checkpoint' ? [[block.name, block]] : [])));
  for (const block of blocks) {
    if (block.kind !== 'train') continue;
    const { base, v_pred_like_loss, scale_v_pred_loss_like_noise_pred } = block.attributes;
    const checkpoint = checkpoints.get(base.block);
    const said = checkpoint?.attributes.prediction;
    const name =
      said === 'v' && v_pred_like_loss > 0
        ? 'v_pred_like_loss'
        : said === 'epsilon' && scale_v_pred_loss_like_noise_pred
          ? 'scale_v_pred_loss_like_noise_pred'
          : undefined;
    if (name === undefined || checkpoint === undefined) continue;
    const place = checkpoint.attributeSpans.prediction ?? checkpoint.span;
    scope.report(problem.otherPrediction(block.attributeSpans[name] ?? block.span, name, place));
  }
}
