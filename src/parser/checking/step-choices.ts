// What stands behind "@": which of the LoRAs that a training gives.

import * as problem from '../diagnostics/diagnostics.ts';
import type { CheckedBlock } from '../model.ts';
import type { ChoiceExpression } from '../reading/ast.ts';
import { number } from '../schema/types.ts';
import { sourceText } from '../source.ts';
import { type StepChoice, savedSteps } from '../values.ts';
import { checkValue } from './check-value.ts';
import { referencesOf } from './order.ts';
import type { Scope } from './scope.ts';

const between = number({ min: 0, max: 1, openMin: true, openMax: true });

/** `undefined` after complaining. */
export function checkChoice(scope: Scope, value: ChoiceExpression): StepChoice | undefined {
  const { which, given, of, span } = value;
  if (which === undefined || which.kind === 'broken') return undefined;
  if (which.kind === 'number' && given === undefined && Number.isSafeInteger(which.value) && which.value > 0) {
    return { kind: 'step', step: which.value };
  }
  if (which.kind === 'word' && given === undefined && which.text === 'best') return { kind: 'best' };
  if (which.kind === 'word' && given === undefined && which.text === 'ema') return { kind: 'kept-ema' };
  const [decay, ...more] = given ?? [];
  if (which.kind === 'word' && which.text === 'ema' && decay !== undefined && more.length === 0) {
    const checked = checkValue(scope, between, 'the decay of ema', decay);
    return typeof checked === 'number' ? { kind: 'ema', decay: checked } : undefined;
  }
  scope.report(problem.oddChoice(span, of.text, sourceText({ ...span, start: which.span.start })));
  return undefined;
}

/** Steps that a training never comes to, the best where none is measured, and averages of nothing. */
export function reportAbsentSteps(scope: Scope, blocks: readonly CheckedBlock[]): void {
  const trainings = new Map(blocks.flatMap((block) => (block.kind === 'train' ? [[block.name, block]] : [])));
  for (const { block, step: choice, span } of blocks.flatMap(referencesOf)) {
    const training = trainings.get(block);
    if (training === undefined || choice === undefined) continue;
    const { steps, validation, save_every, ema } = training.attributes;
    if (choice.kind === 'ema') {
      const isOne = savedSteps(training.attributes).length === 1;
      if (isOne)
        scope.report(problem.averageOfOne(span, { train: block, saveEvery: save_every, steps, header: training.span }));
    } else if (choice.kind === 'kept-ema') {
      if (ema === undefined) scope.report(problem.noKeptAverage(span, block, training.span));
    } else if (choice.kind === 'best') {
      if (validation === undefined) scope.report(problem.noBest(span, block, training.span));
    } else if (choice.step > steps) {
      scope.report(problem.stepBeyond(span, { train: block, step: choice.step, steps, header: training.span }));
    }
  }
}
