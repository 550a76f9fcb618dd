// Names of other blocks: one, or several LoRAs with weights.

import { needs } from '../diagnostics/describe.ts';
import type { Via } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { ChoiceExpression, Expression, Name, VariantExpression } from '../reading/ast.ts';
import { number, type Type } from '../schema/types.ts';
import { type Span, sourceText } from '../source.ts';
import { readPicks } from '../sweeps/exclude.ts';
import { nameOfReference, type Reference, type WeightedReference } from '../values.ts';
import { checkValue } from './check-value.ts';
import { checkOutput, runNamed } from './run-outputs.ts';
import { resolve, type Scope } from './scope.ts';
import { checkChoice } from './step-choices.ts';
import { instead, placeOf, plainText, unquoted, type Written, wrongType } from './written.ts';

type ReferenceType = Extract<Type, { kind: 'reference' }>;

export function checkReference(
  scope: Scope,
  type: ReferenceType,
  name: string,
  written: Written,
): Reference | undefined {
  const { value, via } = written;
  if (value.kind === 'choice') return checkChosen(scope, type, name, { value, via });
  if (value.kind === 'variant') return checkVariantOf(scope, type, name, { value, via });
  if (value.kind === 'list' && value.tag !== undefined && scope.isBlock(value.tag)) {
    scope.report(problem.pickWithoutName(placeOf(written), value.tag.text));
    return undefined;
  }
  if (value.kind !== 'word') {
    // A block of that name, `my-hero`, has been complained about.
    if (value.kind === 'binary' && scope.isBlock({ text: sourceText(value.span), span: value.span })) return undefined;
    const better = unquoted(value, (text) => isOfKind(scope, type, { text, span: value.span }));
    return wrongType(scope, type, name, written, better);
  }
  const span = placeOf(written);
  const block = scope.blockNamed(value);
  const run = runNamed(scope, value, block);
  if (run !== undefined) return checkOutput(scope, { type, name, run, word: value.text, span });
  if (block === undefined) {
    const seen = scope.blocksSeenBy(value.span.source);
    const fitting = seen.filter(([, one]) => type.to.includes(one.kind)).map(([word]) => word);
    const anyBlock = seen.map(([word]) => word);
    const meant = nearest(value.text, fitting) ?? nearest(value.text, anyBlock);
    const wanted = needs(type);
    const available = fitting.map((word) => `"${word}"`);
    scope.report(problem.unknownName(span, { name: value.text, wanted, meant: via ? undefined : meant, available }));
    return undefined;
  }
  // A block of an unknown kind has been complained about; what it would have been is anyone's guess.
  if (block.kind === 'unknown') return undefined;
  if (type.to.includes(block.kind)) {
    scope.ask(block);
    return { kind: 'reference', block: block.name, span };
  }
  const details = { attribute: name, needed: type.to, name: value.text, kind: block.kind, definedAt: block.span };
  scope.report(problem.wrongKind(span, details));
  return undefined;
}

/** `raw@40`. */
function checkChosen(
  scope: Scope,
  type: ReferenceType,
  name: string,
  { value, via }: { readonly value: ChoiceExpression; readonly via: Via | undefined },
): Reference | undefined {
  const { of } = value;
  const word: Written = { value: { kind: 'word', text: of.text, span: of.span }, via };
  const block = checkReference(scope, type, name, word);
  const step = checkChoice(scope, value);
  const kind = block && scope.blockNamed(of)?.kind;
  if (kind !== undefined && kind !== 'train') scope.report(problem.noStepChoice(value.span, variantOf(value), kind));
  if (kind !== 'train' || block === undefined || step === undefined) return undefined;
  return { ...block, ...picksOf(value), step, span: via?.usedAt ?? value.span };
}

/** What stands before the "@". */
const variantOf = ({ span }: ChoiceExpression) => sourceText(span).split('@')[0] as string;

/** `small[thr=-3.55]`. Whether there is such a variant shows once all are known. */
function checkVariantOf(
  scope: Scope,
  type: ReferenceType,
  name: string,
  { value, via }: { readonly value: VariantExpression; readonly via: Via | undefined },
): Reference | undefined {
  const { of } = value;
  const block = checkReference(scope, type, name, { value: { kind: 'word', text: of.text, span: of.span }, via });
  return block && { ...block, ...picksOf(value), span: via?.usedAt ?? value.span };
}

function picksOf({ picks }: VariantExpression | ChoiceExpression): Pick<Reference, 'picks'> {
  return picks.length === 0 ? {} : { picks: readPicks(picks) };
}

type WeightedType = Extract<Type, { kind: 'weighted-references' }>;

/** `[a, b]`, each with weight 1, or `{ a = 0.8  b = 0.5 }`. */
export function checkWeightedReferences(
  scope: Scope,
  type: WeightedType,
  name: string,
  written: Written,
): readonly WeightedReference[] | undefined {
  const { value } = written;
  const parts =
    value.kind === 'list'
      ? value.items.map((item) => withWeightOne(scope, type, name, item))
      : value.kind === 'record' && value.tag === undefined
        ? value.entries.map((entry) => withItsWeight(scope, type, name, entry))
        : undefined;
  if (parts === undefined) return wrongType(scope, type, name, written, weightsMeant(scope, type, value));
  if (parts.length === 0) {
    scope.report(problem.emptyList(placeOf(written), name, needs(type)));
    return undefined;
  }
  const found = parts.filter((part) => part !== undefined);
  const areDifferent = reportTwice(
    scope,
    name,
    found.map((part) => ({ what: `"${nameOfReference(part)}"`, span: part.span })),
  );
  return areDifferent && found.length === parts.length ? found : undefined;
}

function withWeightOne(
  scope: Scope,
  type: WeightedType,
  name: string,
  item: Expression,
): WeightedReference | undefined {
  const written = resolve(scope, item, scope.isBlock);
  if (written === undefined || written.value.kind === 'broken') return undefined;
  const { value } = written;
  // `[{ a = 0.8 }, { b = 0.5 }]`, `[a * 0.8, b]`, `["a:0.8"]` and the like.
  const isWeighed =
    value.kind === 'record' ||
    (value.kind === 'text' && plainText(value)?.includes(':') === true) ||
    (value.kind === 'binary' && !scope.isBlock({ text: sourceText(value.span), span: value.span }));
  if (isWeighed) return wrongType(scope, type, name, written, inBraces);
  const reference = checkReference(scope, { kind: 'reference', to: type.to }, name, written);
  return reference && { ...reference, weight: 1 };
}

function withItsWeight(
  scope: Scope,
  type: WeightedType,
  name: string,
  entry: { readonly name: { readonly text: string; readonly span: Span }; readonly value: Expression },
): WeightedReference | undefined {
  const { text, span } = entry.name;
  // A let may name a step of a training: let early = raw@40.
  const word = resolve(scope, { kind: 'word', text, span }, scope.isBlock);
  const reference = word && checkReference(scope, { kind: 'reference', to: type.to }, name, word);
  const weight = checkValue(scope, number(), text, entry.value) as number | undefined;
  if (weight === 0) scope.report(problem.zeroWeight(entry.value.span, text));
  return reference && weight !== undefined && weight !== 0 ? { ...reference, weight } : undefined;
}

const inBraces = { hint: 'Weights stand in one pair of braces: { a = 0.8  b = 0.5 }' };

/** One LoRA alone, arithmetic, or text such as "a:0.8". */
function weightsMeant(scope: Scope, type: WeightedType, value: Expression) {
  const word = value.kind === 'word' ? value.text : plainText(value);
  return word !== undefined && isOfKind(scope, type, { text: word, span: value.span })
    ? instead(`[${word}]`)
    : inBraces;
}

const isOfKind = (scope: Scope, { to }: { readonly to: readonly string[] }, word: Name): boolean =>
  to.includes(scope.blockNamed(word)?.kind ?? '');

/** True when all are different. `what` is what an item says, as a message quotes it. */
export function reportTwice(
  scope: Scope,
  name: string,
  items: readonly { readonly what: string; readonly span: Span }[],
): boolean {
  const first = new Map<string, Span>();
  let areDifferent = true;
  for (const { what, span } of items) {
    const before = first.get(what);
    if (before === undefined) first.set(what, span);
    else {
      scope.report(problem.duplicateItem(span, { name, what, first: before }));
      areDifferent = false;
    }
  }
  return areDifferent;
}
