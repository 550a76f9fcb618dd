// What the rows of the schema table cannot say one by one: attributes that depend on each other.
// Each rule complains, and gives the attributes as they finally are.

import * as problem from '../diagnostics/diagnostics.ts';
import { type BlockOf, type CheckedBlock, nameOfReference } from '../model.ts';
import type { Name } from '../reading/ast.ts';
import { pictureKinds } from '../schema/schema.ts';
import { type Span, sourceText } from '../source.ts';
import { unreachable } from '../unreachable.ts';
import { bucketRules } from './bucket-rules.ts';
import { processRule } from './prediction-rules.ts';
import { rateRules } from './rate-rules.ts';
import { runRule } from './run-rules.ts';
import type { Scope } from './scope.ts';
import { trainingRules } from './training-rules.ts';

/**
 * The block as it finally is; `undefined` after complaining. When it is not whole, something else has been complained
 * about, and values may be missing: then only those rules apply that ask what is written.
 */
export function applyRules(scope: Scope, block: CheckedBlock, isWhole: boolean): CheckedBlock | undefined {
  switch (block.kind) {
    case 'dataset':
      return isWhole ? datasetRules(scope, block) : undefined;
    case 'resize':
      return scoreRule(scope, block, isWhole);
    case 'chop':
      return choiceRule(scope, block);
    case 'save':
      return savedRule(scope, block);
    case 'preview':
      return isWhole ? strengthRule(scope, block) : undefined;
    case 'checkpoint':
      return isWhole && pickledRule(scope, block) ? processRule(scope, block) : undefined;
    case 'lora':
      return isWhole ? pickledRule(scope, block) : undefined;
    case 'train':
      return isWhole ? trainRules(scope, block) : undefined;
    case 'run':
      return isWhole ? runRule(scope, block) : undefined;
    case 'merge':
    case 'analyze':
      return block;
    default:
      return unreachable(block);
  }
}

/** Attention has its norms in front of it, and none inside. */
function normRule(scope: Scope, block: BlockOf<'train'>): boolean {
  const { network } = block.attributes;
  if (!network.train_norm || network.preset !== 'attn-only') return true;
  scope.report(problem.noNorms(block.attributeSpans.network ?? block.span));
  return false;
}

function trainRules(scope: Scope, block: BlockOf<'train'>): CheckedBlock | undefined {
  const rated = rateRules(scope, block);
  const hasNorms = normRule(scope, block);
  const trained = trainingRules(scope, block);
  return hasNorms && trained ? rated : undefined;
}

function pickledRule(scope: Scope, block: BlockOf<'checkpoint'> | BlockOf<'lora'>): CheckedBlock | undefined {
  const path = block.attributes.path.text;
  if (!/\.(?:ckpt|pt|pth|bin|pkl)$/i.test(path)) return block;
  scope.report(problem.pickledFile(block.attributeSpans.path ?? block.span, path, block.kind === 'checkpoint'));
  return undefined;
}

function datasetRules(scope: Scope, block: BlockOf<'dataset'>): CheckedBlock | undefined {
  const isGood = [bucketRules, separatorRule, repeatsRule, maskRule].map((rule) => rule(scope, block));
  return isGood.includes(false) ? undefined : block;
}

/** A mask comes from one place. */
function maskRule(scope: Scope, { attributes, attributeSpans: spans, span }: BlockOf<'dataset'>): boolean {
  const { alpha_mask, masks, mask_missing } = attributes;
  if (masks === undefined && mask_missing !== 'error')
    scope.report(problem.idleMaskMissing(spans.mask_missing ?? span));
  if (!alpha_mask || masks === undefined) return true;
  scope.report(problem.twoMasks(spans.alpha_mask ?? span, spans.masks ?? span));
  return false;
}

/** Folders that count say how often by themselves: what `repeats` is to mean beside them, nobody knows. */
function repeatsRule(scope: Scope, { attributes, attributeSpans: spans, span }: BlockOf<'dataset'>): boolean {
  if (attributes.folders !== 'kohya' || attributes.repeats === 1) return true;
  scope.report(problem.repeatsOfFolders(spans.repeats ?? span, spans.folders));
  return false;
}

const separators = ['caption_separator', 'keep_tokens_separator', 'secondary_separator'] as const;

/** Each separator means something else, so no two can be the same text. */
function separatorRule(scope: Scope, { attributes, attributeSpans: spans, span }: BlockOf<'dataset'>): boolean {
  const places = new Map<string, (typeof separators)[number]>();
  let isGood = true;
  for (const name of separators) {
    const text = attributes[name];
    if (text === undefined) continue;
    const other = places.get(text);
    if (other === undefined) places.set(text, name);
    else {
      scope.report(problem.sameSeparator(spans[name] ?? span, name, { name: other, span: spans[other] }));
      isGood = false;
    }
  }
  return isGood;
}

const scoreKeys = ['fro_ckpt', 'spn_ckpt', 'spn_lora', 'fro_lora', 'subspace', 'params'] as const;
const cutKeys = ['max_rank', 'sv_ratio', 'sv_fro', 'sv_cumulative'] as const;

/** A score needs a key; a threshold and a size are two answers to one question, and a cut by rank is one as well. */
function scoreRule(scope: Scope, block: BlockOf<'resize'>, isWhole: boolean): CheckedBlock | undefined {
  const { attributes, attributeSpans: spans } = block;
  const written = scoreKeys.filter((key) => attributes[key] !== undefined);
  const sum = written.reduce((total, key) => total + (attributes[key] ?? 0), 0);
  const places = written.map((key) => spans[key]).filter((span): span is Span => span !== undefined);
  if (spans.thr !== undefined && spans.size !== undefined) {
    scope.report(problem.thrAndSize(spans.thr, spans.size));
    return undefined;
  }
  if (isWhole && written.length > 0 && sum === 0) {
    scope.report(problem.scoreSum(places[0] ?? block.span, written));
    return undefined;
  }
  const { min_rank, max_rank } = attributes;
  if (isWhole && min_rank !== undefined && max_rank !== undefined && min_rank > max_rank) {
    scope.report(problem.rankOrder(spans.min_rank ?? block.span, min_rank, max_rank));
    return undefined;
  }
  complainOfQuotient(scope, block);
  const isCut = attributes.size !== undefined || cutKeys.some((key) => attributes[key] !== undefined);
  const thr = isCut && spans.thr === undefined ? undefined : attributes.thr;
  const needsScore = thr !== undefined || attributes.size !== undefined;
  return {
    ...block,
    attributes: { ...attributes, fro_ckpt: written.length === 0 && needsScore ? 1 : attributes.fro_ckpt, thr },
  };
}

/** `thr = -3/-3.5`, as a recipe of `lorac resize` has two thresholds. */
function complainOfQuotient(scope: Scope, { attributes: { thr }, attributeSpans: { thr: span } }: BlockOf<'resize'>) {
  // Without blanks, those of no width too.
  const written = span === undefined ? '' : sourceText(span).replaceAll(/[\s\u200b\u2060]/g, '');
  const numbers = /^-[\d.]+(?:\/-[\d.]+)+$/.test(written) ? written.split('/') : [];
  if (span === undefined || thr === undefined || numbers.length < 2) return;
  scope.report(problem.quotientForSweep(span, { numbers, thr }));
}

const choices = ['keep', 'drop', 'mask', 'weights'] as const;

function choiceRule(scope: Scope, block: BlockOf<'chop'>): CheckedBlock | undefined {
  const written = choices.flatMap((text): Name[] => {
    const span = block.attributeSpans[text];
    return span === undefined ? [] : [{ text, span }];
  });
  if (written.length === 1) return block;
  scope.report(problem.chopChoice(block.span, written));
  return undefined;
}

function strengthRule(scope: Scope, block: BlockOf<'preview'>): CheckedBlock | undefined {
  if (!block.attributes.strengths.includes(0)) return block;
  scope.report(problem.zeroStrength(block.attributeSpans.strengths ?? block.span));
  return undefined;
}

/** A LoRA is saved as safetensors, in one format or another; a picture as a PNG. */
function savedRule(scope: Scope, block: BlockOf<'save'>): CheckedBlock | undefined {
  const from: BlockOf<'save'>['attributes']['from'] | undefined = block.attributes.from;
  const kind = from && scope.kindOf(from);
  const output = from?.output;
  const isPicture = pictureKinds.some((one) => one === kind);
  if (output !== undefined && output.suffix !== '.safetensors') return savedOutputRule(scope, block, output);
  const suffix = isPicture ? '.png' : '.safetensors';
  let isGood = true;
  if (
    block.name !== '' &&
    !block.name.toLowerCase().endsWith(suffix) &&
    (kind !== undefined || !isKnownSuffix(scope, block))
  ) {
    scope.report(problem.savePath(block.span, block.name, isPicture));
    isGood = false;
  }
  const { format } = block.attributeSpans;
  if (isPicture && from !== undefined && format !== undefined) {
    scope.report(problem.formatOfPicture(format, from.block));
    isGood = false;
  }
  return isGood ? block : undefined;
}

/** What a run wrote keeps its ending: whoever opens the file goes by it. */
function savedOutputRule(
  scope: Scope,
  block: BlockOf<'save'>,
  { suffix }: { readonly suffix: string },
): CheckedBlock | undefined {
  const { format } = block.attributeSpans;
  const from = nameOfReference(block.attributes.from);
  const isNamed = block.name === '' || block.name.toLowerCase().endsWith(suffix);
  if (!isNamed) scope.report(problem.saveSuffix(block.span, { path: block.name, from, suffix }));
  if (format !== undefined) scope.report(problem.formatOfFile(format, from));
  return isNamed && format === undefined ? block : undefined;
}

/** Where it is not known what is saved, either will do. */
const isKnownSuffix = (scope: Scope, { name, span }: BlockOf<'save'>) =>
  /\.(?:safetensors|png)$/i.test(name) || scope.blocksSeenBy(span.source).some(([, { kind }]) => kind === 'run');
