// Whether a training that says how masks count has any.

import * as problem from '../diagnostics/diagnostics.ts';
import type { CheckedBlock } from '../model.ts';
import type { Scope } from './scope.ts';

export function checkMaskedLosses(scope: Scope, blocks: readonly CheckedBlock[]): void {
  const datasets = new Map(blocks.flatMap((block) => (block.kind === 'dataset' ? [[block.name, block]] : [])));
  for (const block of blocks) {
    if (block.kind !== 'train') continue;
    const { data, regularization, masked_loss } = block.attributes;
    if (!masked_loss?.normalize && !masked_loss?.unmasked_weight) continue;
    const names = [data.block, ...(regularization ? [regularization.block] : [])];
    // One that is broken has been complained about.
    const used = names.map((name) => datasets.get(name)?.attributes);
    if (used.some((one) => one === undefined || one.alpha_mask || one.masks !== undefined)) continue;
    scope.report(problem.idleMaskedLoss(block.attributeSpans.masked_loss ?? block.span, names));
  }
}
