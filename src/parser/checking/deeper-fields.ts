// Attributes that stand in a block and belong into a record of it, as other trainers have all of theirs on one level:
// `network_dim = 8` is `network = locon { dim = 8 }` here. Where it belongs, and the edit that puts it there.

import { type Fix, replace } from '../diagnostics/diagnostic.ts';
import type { Attribute, RecordExpression } from '../reading/ast.ts';
import type { Fields, Setting } from '../schema/types.ts';
import { type Span, sourceText } from '../source.ts';

export interface Deeper {
  /** The attribute with the record. */
  readonly outer: string;
  /** What stands before its braces; empty where nothing does. */
  readonly tag: string;
  /** What the attribute is called in it. */
  readonly name: string;
  readonly row: Setting;
}

/** The first record that has the word, by its name or by one of another trainer. `tags` are those that are written. */
export function deeperPlace(
  fields: Fields,
  word: string,
  tags: ReadonlyMap<string, string> = new Map(),
): Deeper | undefined {
  for (const [outer, { type }] of Object.entries(fields)) {
    const all =
      type.kind === 'record'
        ? [['', type.fields] as const]
        : type.kind === 'tagged'
          ? Object.entries(type.variants)
          : [];
    const written = tags.get(outer);
    for (const [tag, inner] of all.filter(([tag]) => written === undefined || tag === written)) {
      const found = Object.entries(inner).find(
        ([name, row]) => name === word || row.synonyms.includes(word.toLowerCase()),
      );
      if (found !== undefined) return { outer, tag, name: found[0], row: found[1] };
    }
  }
  return undefined;
}

/** The words before the braces of those records that are written. */
export function tagsOf(entries: readonly Attribute[]): ReadonlyMap<string, string> {
  const tagged = entries.flatMap(({ name, value }) => {
    if (value.kind === 'word') return [[name.text, value.text] as const];
    return value.kind === 'record' && value.tag !== undefined ? [[name.text, value.tag.text] as const] : [];
  });
  return new Map(tagged);
}

/**
 * `undefined` where it cannot be done without asking: the record has that attribute already, comes through a name, or is
 * written twice.
 */
export function moveInto(
  entry: Attribute,
  { outer, tag, name }: Deeper,
  entries: readonly Attribute[],
): Fix | undefined {
  const value = sourceText(entry.value.span);
  const pair = `${name} = ${value}`;
  const whole: Span = { ...entry.name.span, end: entry.value.span.end };
  const there = entries.filter((one) => one.name.text === outer);
  const [record, ...others] = there;
  if (entry.value.kind === 'broken' || value.includes('\n') || others.length > 0) return undefined;
  if (record === undefined) return replace(whole, `${outer} = ${tag === '' ? '' : `${tag} `}{ ${pair} }`);
  const into = record.value;
  if (into.span.source !== whole.source) return undefined;
  if (into.kind === 'word' && into.text === tag)
    return both(whole, { ...into.span, start: into.span.end }, ` { ${pair} }`);
  if (into.kind !== 'record' || into.entries.some((one) => one.name.text === name)) return undefined;
  return both(
    whole,
    behindLast(into),
    ` ${into.entries.length === 0 ? '' : ' '}${pair}${into.entries.length === 0 ? ' ' : ''}`,
  );
}

function behindLast({ span, entries }: RecordExpression): Span {
  const last = entries.at(-1);
  if (last !== undefined) return { ...span, start: last.value.span.end, end: last.value.span.end };
  const brace = span.start + sourceText(span).indexOf('{') + 1;
  return { ...span, start: brace, end: brace };
}

/** One edit for both ends: `gone` is left out, with its line where it stands alone, and `text` added at `place`. */
function both(gone: Span, place: Span, text: string): Fix {
  const { source } = gone;
  const before = /(?:^|\n)[^\S\n]*$|[^\S\n]*$/.exec(source.text.slice(0, gone.start))?.[0].length ?? 0;
  const out = { ...gone, start: gone.start - before };
  const at = place.start;
  if (at <= out.start) return replace({ source, start: at, end: out.end }, text + source.text.slice(at, out.start));
  return replace({ source, start: out.start, end: at }, source.text.slice(out.end, at) + text);
}
