// What blocks have to know of each other: whether a base is known where one is asked for, whether there is a picture
// to save, and that no two blocks save to one place.

import * as problem from '../diagnostics/diagnostics.ts';
import type { BaseOfLora } from '../diagnostics/surgery.ts';
import type { BlockOf, CheckedBlock, Reference } from '../model.ts';
import type { Span } from '../source.ts';
import { type Base, type Bases, baseOf, basesOf, byBlockName, firstBase } from './bases.ts';
import { checkMaskedLosses } from './mask-rules.ts';
import { orderBlocks, referencesOf } from './order.ts';
import { checkPredictions } from './prediction-rules.ts';
import { reportSamePaths } from './saved-paths.ts';
import type { Scope } from './scope.ts';
import { reportAbsentSteps } from './step-choices.ts';

export function checkAcross(scope: Scope, blocks: readonly CheckedBlock[]): void {
  reportSamePaths(scope, blocks);
  const { ordered } = orderBlocks(blocks);
  const bases = basesOf(ordered);
  reportMissingBases(scope, blocks, bases);
  reportMixedBases(scope, blocks, bases);
  reportMissingPictures(scope, blocks);
  reportAbsentSteps(scope, blocks);
  checkPredictions(scope, blocks);
  checkMaskedLosses(scope, blocks);
}

/** Where a block asks for the base of a LoRA, and what for. */
interface Question {
  readonly block: string;
  readonly message: string;
  readonly span: Span;
  readonly base: Base;
}

/** One complaint for each lora block that leaves questions open. */
function reportMissingBases(scope: Scope, blocks: readonly CheckedBlock[], bases: Bases): void {
  const asking = new Map<BlockOf<'lora'> | BlockOf<'run'>, Question[]>();
  for (const question of blocks.flatMap((block) => questionOf(block, bases) ?? [])) {
    if (question.base.kind !== 'unsaid') continue;
    const { lora } = question.base;
    asking.set(lora, [...(asking.get(lora) ?? []), question]);
  }
  for (const [lora, questions] of asking) {
    const seen = scope.blocksSeenBy(lora.span.source);
    const checkpoints = seen.filter(([, { kind }]) => kind === 'checkpoint').map(([name]) => name);
    const inside = behindBrace(lora.span);
    scope.report(problem.noBase({ lora: lora.name, header: lora.span, asking: questions, checkpoints, inside }));
  }
}

const needingBase = ['fro_ckpt', 'spn_ckpt', 'subspace'] as const;

function questionOf(block: CheckedBlock, bases: Bases): Question | undefined {
  const { name, span } = block;
  switch (block.kind) {
    case 'resize': {
      const { attributes, attributeSpans } = block;
      const key = needingBase.find((one) => (attributes[one] ?? 0) !== 0);
      if (key === undefined) return undefined;
      const how = attributeSpans[key] === undefined ? ', as a resize does unless it names other scores' : '';
      const message = `"${name}" compares with the weights of that checkpoint (${key})${how}`;
      return { block: name, message, span: attributeSpans[key] ?? span, base: baseOf(bases, attributes.from) };
    }
    case 'preview': {
      const { base, loras } = block.attributes;
      if (base !== undefined) return undefined;
      const message = `"${name}" renders pictures with it, and names none of its own`;
      return { block: name, message, span, base: firstBase(bases, loras) };
    }
    case 'analyze': {
      const { base, from } = block.attributes;
      if (base !== undefined) return undefined;
      const message = `"${name}" compares with its weights, and names none of its own`;
      return { block: name, message, span, base: baseOf(bases, from) };
    }
    default:
      return undefined;
  }
}

/** The place behind the brace that opens a block, for one more attribute. */
function behindBrace({ source, end }: Span): Span | undefined {
  const length = /^\s*(?:extends\s+[\w.]+\s*)?\{/.exec(source.text.slice(end, end + 200))?.[0].length;
  return length === undefined ? undefined : { source, start: end + length, end: end + length };
}

function reportMixedBases(scope: Scope, blocks: readonly CheckedBlock[], bases: Bases): void {
  for (const block of blocks) {
    if (block.kind === 'merge') {
      const known = knownBases(bases, byBlockName(block.attributes.from));
      const span = block.attributeSpans.from ?? block.span;
      if (areDifferent(known)) scope.report(problem.mergedBases(span, block.name, known));
    } else if (block.kind === 'preview' && block.attributes.base === undefined) {
      const known = knownBases(bases, block.attributes.loras);
      const span = block.attributeSpans.loras ?? block.span;
      if (areDifferent(known)) scope.report(problem.twoBases(span, block.name, known));
    }
  }
}

function knownBases(bases: Bases, loras: readonly Reference[]): readonly BaseOfLora[] {
  return loras.flatMap((lora) => {
    const base = baseOf(bases, lora);
    return base.kind === 'known' ? [{ lora: lora.block, base: base.checkpoint }] : [];
  });
}

const areDifferent = (known: readonly BaseOfLora[]) => new Set(known.map(({ base }) => base)).size > 1;

/** An analyze without prompts has numbers to tell and nothing to show. */
function reportMissingPictures(scope: Scope, blocks: readonly CheckedBlock[]): void {
  const analyses = new Map(blocks.flatMap((block) => (block.kind === 'analyze' ? [[block.name, block]] : [])));
  for (const block of blocks) {
    if (block.kind !== 'save' && block.kind !== 'run') continue;
    for (const from of referencesOf(block)) {
      const analysis = analyses.get(from.block);
      if (analysis?.attributes.prompts === undefined && analysis !== undefined) {
        scope.report(problem.noPicture(from.span, analysis));
      }
    }
  }
}
