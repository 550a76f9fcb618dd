// The attributes of a block, or of a record inside one, against their rows of the schema table:
// each written once, each known, none missing, every other one at its default.

import { enumerate, withArticle, writeValue } from '../diagnostics/describe.ts';
import { replace } from '../diagnostics/diagnostic.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { Attribute } from '../reading/ast.ts';
import { snippet } from '../reading/literals.ts';
import { blockKinds, fieldsOf, lacking, needless, saidElsewhere, schema } from '../schema/schema.ts';
import type { Fields, Setting, Type } from '../schema/types.ts';
import type { Span } from '../source.ts';
import { checkValue } from './check-value.ts';
import { type Deeper, deeperPlace, moveInto, tagsOf } from './deeper-fields.ts';
import { type Scope, spanOfValue } from './scope.ts';

export interface FieldsToCheck {
  readonly fields: Fields;
  readonly entries: readonly Attribute[];
  /** In messages: `The train block "raw"`, `SAVEUS`. */
  readonly owner: string;
  /** Where to point when something is missing. */
  readonly ownerSpan: Span;
  /** The attribute whose record this is; `undefined` for a block itself. */
  readonly inside?: string;
  /** The other forms that the record can have, by tag. */
  readonly variants?: { readonly [tag: string]: Fields };
}

export interface CheckedFields {
  readonly values: { readonly [name: string]: unknown };
  /** Where each value is written, also under another name; `undefined` where it is the default. */
  readonly spans: { readonly [name: string]: Span | undefined };
  /** False when something is wrong, which has been complained about: values are missing then. */
  readonly isWhole: boolean;
}

export function checkFields(scope: Scope, checking: FieldsToCheck): CheckedFields {
  const { fields, entries } = checking;
  const written = new Map<string, Attribute>();
  // Where an unknown name was probably meant to be one of these: then that one is not missing as well.
  const meant = new Map<string, Span>();
  // Records that something was moved into: one at a time, since each edit changes where the next would go.
  const moved = new Set<string>();
  let isWhole = true;
  for (const entry of entries) {
    const { name } = entry;
    const first = written.get(name.text);
    if (!Object.hasOwn(fields, name.text)) {
      const advice = adviseOn(entry, checking);
      // Under its own name, one that is there already would be there twice.
      const isFree = entries.every((one) => one.name.text !== advice.meant) && !meant.has(advice.meant ?? '');
      const rename = advice.meant !== undefined && isFree ? replace(name.span, advice.meant) : undefined;
      const move =
        advice.deeper && !moved.has(advice.deeper.outer) ? moveInto(entry, advice.deeper, entries) : undefined;
      if (advice.deeper !== undefined && move !== undefined) moved.add(advice.deeper.outer);
      if (advice.meant !== undefined) meant.set(advice.meant, entry.value.span);
      scope.report(problem.unknownAttribute({ name, owner: checking.owner, hint: advice.hint, fix: rename ?? move }));
      isWhole = false;
    } else if (first !== undefined) {
      scope.report(problem.duplicateAttribute(name, first.name.span));
      isWhole = false;
    } else {
      written.set(name.text, entry);
    }
  }
  const values: Record<string, unknown> = {};
  const spans: Record<string, Span | undefined> = {};
  for (const [name, field] of Object.entries(fields)) {
    const entry = written.get(name);
    spans[name] = entry === undefined ? meant.get(name) : spanOfValue(scope, entry.value);
    values[name] = entry === undefined ? field.default : checkValue(scope, field.type, name, entry.value);
    if (entry !== undefined && values[name] === undefined) isWhole = false;
    if (entry === undefined && field.required) {
      isWhole = false;
      if (!meant.has(name)) reportMissing(scope, checking, name, field);
    }
  }
  return { values, spans, isWhole };
}

function reportMissing(scope: Scope, { owner, ownerSpan }: FieldsToCheck, name: string, field: Setting): void {
  const { type, doc } = field;
  const kinds = kindsNamedBy(type);
  // A block is not made from itself.
  const isItself = ({ source, start }: Span) =>
    source === ownerSpan.source && start >= ownerSpan.start && start <= ownerSpan.end;
  const fitting = scope
    .blocksSeenBy(ownerSpan.source)
    .filter(([, { kind, span }]) => kinds.includes(kind) && !isItself(span))
    .map(([word]) => word);
  const isOne = type.kind === 'reference' ? fitting.length === 1 : fitting.length > 0 && fitting.length <= 4;
  const written = type.kind === 'reference' ? fitting.join() : `[${fitting.join(', ')}]`;
  const example = isOne ? written : exampleOf(field);
  scope.report(problem.missingAttribute(ownerSpan, { owner, name, doc, hint: `Write ${name} = ${example}` }));
}

/** The kinds of blocks whose names can stand in a value. */
function kindsNamedBy(type: Type): readonly string[] {
  if (type.kind === 'reference' || type.kind === 'weighted-references') return type.to;
  return type.kind === 'list' ? kindsNamedBy(type.of) : [];
}

function exampleOf({ type, default: value }: Setting): string {
  if (value !== undefined) return writeValue(type, value);
  if (type.kind === 'named') return '{ … }';
  return type.kind === 'text' || type.kind === 'either' ? '"…"' : '…';
}

interface Advice {
  readonly hint: string;
  /** The attribute of the same owner that was meant, where only its name is wrong. */
  readonly meant: string | undefined;
  /** The record of the same owner that it belongs into. */
  readonly deeper?: Deeper;
}

/** The best guess first: another trainer's word, a slip, a word of another place; else the list of what there is. */
function adviseOn({ name, value }: Attribute, { fields, entries, inside, variants }: FieldsToCheck): Advice {
  const word = name.text;
  const written = value.kind === 'broken' ? undefined : snippet(value.span);
  const synonym = Object.entries(fields).find(([, field]) => field.synonyms.includes(word.toLowerCase()))?.[0];
  if (synonym !== undefined) return { hint: `It is called ${synonym} here.`, meant: synonym };
  const names = Object.keys(fields);
  const near = nearest(word, names);
  const deeper = deeperPlace(fields, word, tagsOf(entries)) ?? deeperPlace(fields, word);
  if (deeper !== undefined && near === undefined)
    return { hint: `Write ${pathInto(deeper, written)}`, meant: undefined, deeper };
  if (near !== undefined) return { hint: `There is one with a similar name: ${near}`, meant: near };
  const reason = [needless, saidElsewhere, lacking].find((reasons) => Object.hasOwn(reasons, word))?.[word];
  if (reason !== undefined) return { hint: reason, meant: undefined };
  const others = Object.entries(variants ?? {}).filter(([, rows]) => knows(rows, word));
  if (others.length > 0) {
    const tags = enumerate(others.map(([tag]) => tag));
    return { hint: `Only ${tags} ${others.length === 1 ? 'has' : 'have'} that.`, meant: undefined };
  }
  const elsewhere = placeBeside(word, inside) ?? placeOf(word, written);
  if (elsewhere !== undefined) return { hint: elsewhere, meant: undefined };
  const synonyms = new Map(
    Object.entries(fields).flatMap(([key, field]) => field.synonyms.map((one) => [one, key] as const)),
  );
  const nearSynonym = nearest(word, synonyms.keys());
  const meant = nearSynonym === undefined ? undefined : synonyms.get(nearSynonym);
  if (meant !== undefined) return { hint: `There is one for the same thing: ${meant}`, meant };
  const list = names.length === 0 ? 'It has none.' : `It has: ${names.join(', ')}.`;
  return {
    hint: inside === undefined ? list : `${list} Other attributes of the block stand beside ${inside}.`,
    meant: undefined,
  };
}

/** `network = locon { dim = 8 }` for `dim` or `network_dim`. */
function pathInto({ outer, tag, name, row }: Deeper, written: string | undefined): string {
  return `${outer} = ${tag === '' ? '' : `${tag} `}{ ${name} = ${written ?? exampleOf(row)} }`;
}

const knows = (rows: Fields, word: string): boolean =>
  Object.entries(rows).some(([name, row]) => name === word || row.synonyms.includes(word.toLowerCase()));

/** A word of the block, written inside of one of its records. */
function placeBeside(word: string, inside: string | undefined): string | undefined {
  const isMisplaced = blockKinds.map(fieldsOf).some((fields) => {
    return inside !== undefined && Object.hasOwn(fields, inside) && Object.hasOwn(fields, word);
  });
  return isMisplaced ? `It belongs beside ${inside}, not inside. A "}" may be missing before it.` : undefined;
}

/** Where in other blocks a word belongs. */
function placeOf(word: string, written: string | undefined): string | undefined {
  const blocks = Object.entries<Fields>(schema);
  const owners = blocks.filter(([, fields]) => Object.hasOwn(fields, word)).map(([kind]) => kind);
  if (owners.length > 0) return `It belongs into ${withArticle(enumerate(owners, 'or'))} block.`;
  for (const [kind, fields] of blocks) {
    const own = Object.entries(fields).find(([, field]) => field.synonyms.includes(word.toLowerCase()));
    if (own !== undefined) return `It is called ${own[0]}, and belongs into ${withArticle(kind)} block.`;
  }
  for (const [kind, fields] of blocks) {
    const inner = deeperPlace(fields, word);
    if (inner !== undefined) return `It belongs into ${withArticle(kind)} block: ${pathInto(inner, written)}`;
  }
  return undefined;
}
