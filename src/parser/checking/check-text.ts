// Text: `${…}` filled in, paths and masks looked at more closely.

import { parseMask, SDXL } from '../blocks.ts';
import { parseColor } from '../color.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { Attribute, Expression, Name, TextExpression } from '../reading/ast.ts';
import { isOddPath } from '../reading/literals.ts';
import type { Type } from '../schema/types.ts';
import { type Span, sourceText } from '../source.ts';
import { compute } from './check-number.ts';
import { attributesOf } from './extending.ts';
import { resolve, type Scope } from './scope.ts';
import { complainOfForm, inQuotes, instead, placeOf, type Written, wrongType } from './written.ts';

type TextType = Extract<Type, { kind: 'text' }>;

export function checkText(scope: Scope, type: TextType, name: string, written: Written): string | undefined {
  const { value } = written;
  if (value.kind !== 'text') {
    const isPlain = value.kind === 'word' || value.kind === 'number' || value.kind === 'binary';
    const quoted = isPlain ? inQuotes(value.span) : undefined;
    return wrongType(scope, type, name, written, instead(quoted));
  }
  const text = joinText(scope, value);
  if (text === undefined) return undefined;
  if (text.trim() === '') {
    scope.report(problem.emptyText(placeOf(written), name));
    return undefined;
  }
  if (type.what === 'mask') return checkMask(scope, value, text) ? text : undefined;
  if (type.what === 'color' && parseColor(text) === undefined) {
    scope.report(problem.oddColor(placeOf(written), text));
    return undefined;
  }
  if (type.what === 'path' && isOddPath(text)) {
    scope.report(problem.oddPath(placeOf(written), sourceText(value.span)));
    return undefined;
  }
  return text;
}

/** Longer texts than this come from names that use names, each doubling the last. */
const longestText = 100_000;

/** A text with its `${…}` filled in. */
export function joinText(scope: Scope, value: TextExpression): string | undefined {
  const parts = value.parts.map((part) =>
    typeof part === 'string' ? part : scope.step(part.span, () => interpolate(scope, part)),
  );
  if (parts.some((part) => part === undefined)) return undefined;
  const text = parts.join('');
  if (text.length <= longestText) return text;
  scope.report(problem.tooComplex(value.span));
  return undefined;
}

/** What an expression in a text is called in messages. */
const inText = `\${…}`;

const isBoolean = ({ text }: Name) => text === 'true' || text === 'false';

/** Where an expression in a text is a value of a sweep: what it is called there. */
export function sweptLabel(scope: Scope, part: Expression): string | undefined {
  return resolve(scope, attributeNamed(scope, part) ?? part, isBoolean)?.label;
}

/** `small.thr` is what the block "small" says of "thr", `raw.network.dim` what stands deeper. */
function attributeNamed(scope: Scope, part: Expression): Expression | undefined {
  if (part.kind !== 'word' || scope.definitionNamed(part) !== undefined) return undefined;
  const words = part.text.split('.');
  for (let count = words.length - 1; count > 0; count -= 1) {
    const block = scope.blockNamed({ text: words.slice(0, count).join('.'), span: part.span })?.statement;
    if (block === undefined) continue;
    let entries: readonly Attribute[] = attributesOf(scope, block);
    let found: Expression | undefined;
    for (const word of words.slice(count)) {
      found = entries.find(({ name }) => name.text === word)?.value;
      const inner = found && resolve(scope, found, () => false)?.value;
      entries = inner?.kind === 'record' ? inner.entries : [];
    }
    return found;
  }
  return undefined;
}

function interpolate(scope: Scope, part: Expression): string | undefined {
  const attribute = attributeNamed(scope, part);
  const found = resolve(scope, attribute ?? part, isBoolean);
  if (found === undefined) return undefined;
  // Where a block says what cannot be text, nothing is wrong but that a text asks for it.
  const asked = attribute && { name: sourceText(part.span), usedAt: part.span, definedAt: attribute.span };
  const written = asked === undefined ? found : { ...found, via: asked };
  const { value } = written;
  // What tells variants apart: a value as it is written, or its name.
  if (written.label !== undefined) return value.kind === 'broken' ? undefined : written.label;
  switch (value.kind) {
    case 'text':
      return joinText(scope, value);
    case 'size':
      return `${value.width}x${value.height}`;
    case 'number':
    case 'negate':
    case 'binary': {
      const result = compute(scope, inText, value);
      if (result === undefined || Number.isFinite(result)) return result === undefined ? undefined : String(result);
      scope.report(problem.notComputable(part.span));
      return undefined;
    }
    case 'word': {
      if (value.text === 'true' || value.text === 'false') return value.text;
      if (attribute !== undefined) return wrongType(scope, { kind: 'text', what: 'text' }, inText, written);
      const names = scope.definitionsSeenBy(value.span.source);
      const available = names.length === 0 ? [] : [names.join(', ')];
      const meant = nearest(value.text, names);
      scope.report(
        problem.unknownName(placeOf(written), { name: value.text, wanted: 'a let or a param', meant, available }),
      );
      return undefined;
    }
    case 'broken':
      return undefined;
    case 'choice':
    case 'call':
      return complainOfForm(scope, { kind: 'text', what: 'text' }, inText, written);
    default:
      return wrongType(scope, { kind: 'text', what: 'text' }, inText, written);
  }
}

function checkMask(scope: Scope, value: TextExpression, text: string): boolean {
  const entries = parseMask(text);
  // An entry has a place of its own only where the text stands in the file as it is.
  const isPlain = sourceText({ ...value.span, start: value.span.start + 1, end: value.span.end - 1 }) === text;
  const spanOf = (offset: number, length: number): Span => {
    const start = value.span.start + 1 + offset;
    return isPlain ? { ...value.span, start, end: start + Math.max(length, 1) } : value.span;
  };
  const odd = entries.filter((entry) => entry.weight === undefined);
  for (const entry of odd.slice(0, 3))
    scope.report(problem.maskEntry(spanOf(entry.offset, entry.text.length), entry.text));
  if (!SDXL.masks.has(entries.length)) scope.report(problem.maskLength(value.span, entries.length));
  const first = entries[0];
  if (odd.length > 0 || !SDXL.masks.has(entries.length) || first?.weight === undefined) return false;
  if (first.weight !== 1) scope.report(problem.maskFirst(spanOf(first.offset, first.text.length), first.weight));
  return true;
}
