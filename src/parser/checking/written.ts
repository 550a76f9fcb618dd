// A value as it stands in the text, and complaints about what kind of value it is.

import type { Via } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import { howToSweep } from '../diagnostics/sweep.ts';
import type { Expression } from '../reading/ast.ts';
import { snippet, writeText } from '../reading/literals.ts';
import type { Type } from '../schema/types.ts';
import { type Span, sourceText } from '../source.ts';
import type { Scope } from './scope.ts';

/** A value as it is written, and the name that it came through, if any. */
export interface Written {
  readonly value: Expression;
  readonly via: Via | undefined;
}

/** Where to point: at the name when the value came through one. */
export const placeOf = ({ value, via }: Written): Span => via?.usedAt ?? value.span;

export interface Better {
  readonly hint?: string | undefined;
  readonly fix?: string | undefined;
}

/** What to write in its place, where that is known. */
export function instead(text: string | undefined, addition = ''): Better {
  return text === undefined ? {} : { hint: `Write ${text}${addition}`, fix: text };
}

/** A word that stands in quotes, and should not. */
export function unquoted(value: Expression, isKnown: (word: string) => boolean): Better {
  const word = plainText(value);
  return instead(word !== undefined && isKnown(word) ? word : undefined, ', without quotes');
}

export function wrongType(scope: Scope, type: Type, name: string, written: Written, better: Better = {}): undefined {
  const { value, via } = written;
  if (value.kind === 'broken') return;
  const meant =
    value.kind === 'word' && via === undefined
      ? nearest(value.text, scope.definitionsSeenBy(value.span.source))
      : undefined;
  const similar =
    meant === undefined ? sweepMeant(type, value) : { hint: `There is one with a similar name: ${meant}`, fix: meant };
  scope.report(problem.wrongType(placeOf(written), { name, type, value, via, ...similar, ...better }));
}

/** Several values where there is one, or `sweep` written in another way. */
function sweepMeant(type: Type, value: Expression): Better {
  if (value.kind === 'word' && value.text === 'sweep') return { hint: howToSweep };
  if (value.kind !== 'list' || type.kind === 'list' || type.kind === 'weighted-references') return {};
  const { tag, items } = value;
  const list = sourceText(tag === undefined ? value.span : { ...value.span, start: tag.span.end }).trim();
  if (tag !== undefined) return instead(nearest(tag.text, ['sweep']) && `sweep ${list}`);
  return items.length < 2 ? {} : { hint: `Write sweep ${snippet(value.span)} to have it made once for each.` };
}

/** Forms that the grammar knows and no attribute takes. */
export function complainOfForm(scope: Scope, type: Type, name: string, { value }: Written): undefined {
  if (value.kind === 'choice') scope.report(problem.noStepChoice(value.span, value.of.text));
  else if (value.kind === 'call') scope.report(problem.noFunction(value.span, value.name.text));
  else wrongType(scope, type, name, { value, via: undefined });
}

/** The text when it has no `${…}` in it. */
export function plainText(value: Expression): string | undefined {
  if (value.kind !== 'text') return undefined;
  return value.parts.every((part) => typeof part === 'string') ? value.parts.join('') : undefined;
}

/**
 * A value as text, where text was needed and quotes were forgotten. `undefined` where it has a quote or a line end in it:
 * then it is not certain what was meant, and quotes around quotes would need others around them the next time.
 */
export function inQuotes(span: Span): string | undefined {
  const written = sourceText(span);
  return /["'\r\n]/.test(written) ? undefined : writeText(written);
}
