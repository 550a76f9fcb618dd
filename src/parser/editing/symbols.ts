// What each word of a program stands for: what is defined where, and who uses it. An editor reads this table; a compile
// has no need of it. It is made from what was written, so it is there for a program with mistakes too, and whatever
// cannot be understood is simply not in it.

import type { Attribute, BlockStatement, Definition, Expression, Name, Program } from '../ast.ts';
import { claims } from '../check-value.ts';
import { type BlockKind, blockDocs, fieldsOf, isBlockKind } from '../schema.ts';
import type { Fields, Setting, Type } from '../schema-types.ts';
import type { Span } from '../source.ts';

/** Something that has a name: a block, or what `let` and `param` define. */
export interface Named {
  readonly kind: 'block' | 'let' | 'param';
  readonly name: string;
  /** Where the name is written that others repeat. Without its quotes, if it has any. */
  readonly span: Span;
  readonly statement: BlockStatement | Definition;
}

/** Where a setting stands: the attribute of a block, or one inside of its records. */
export interface Place {
  readonly block: BlockStatement;
  /** `["optimizer", "eps"]`. */
  readonly path: readonly string[];
  readonly setting: Setting;
}

/** A word, and what it stands for. */
export type Meaning = { readonly span: Span } & (
  | { readonly kind: 'block-kind'; readonly blockKind: BlockKind; readonly doc: string }
  | { readonly kind: 'definition' | 'use'; readonly of: Named }
  | { readonly kind: 'attribute'; readonly place: Place }
  /** The word in front of a record's braces. */
  | { readonly kind: 'tag'; readonly tag: string; readonly place: Place }
  /** A word that the attribute itself knows: `bf16`, `true`, `OUT01`, `step`. */
  | { readonly kind: 'word'; readonly word: string; readonly place: Place }
);

export interface Symbols {
  /** Each name once: the first that bears it. Names of blocks, and names of values. */
  readonly blocks: ReadonlyMap<string, Named>;
  readonly values: ReadonlyMap<string, Named>;
  /** In the order of the text; none lies in another. */
  readonly meanings: readonly Meaning[];
}

export function symbolsOf(program: Program): Symbols {
  const walk = new Walk(program);
  return { blocks: walk.blocks, values: walk.values, meanings: walk.meanings() };
}

/** The meaning of the word at a place; at its end counts too. */
export function meaningAt({ meanings }: Symbols, offset: number): Meaning | undefined {
  let [low, high] = [0, meanings.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((meanings[middle] as Meaning).span.end < offset) low = middle + 1;
    else high = middle;
  }
  const [first, next] = [meanings[low], meanings[low + 1]];
  // Between two words that touch, the one that begins there.
  if (next !== undefined && next.span.start <= offset) return next;
  return first !== undefined && first.span.start <= offset ? first : undefined;
}

/** Every place where a name is written, its definition among them. */
export function placesOfName({ meanings }: Symbols, named: Named): readonly Meaning[] {
  return meanings.filter((one) => (one.kind === 'use' || one.kind === 'definition') && one.of === named);
}

class Walk {
  readonly blocks = new Map<string, Named>();
  readonly values = new Map<string, Named>();
  readonly #found: Meaning[] = [];
  readonly #kinds = new Map<string, { readonly kind: BlockKind | 'unknown'; readonly span: Span }>();
  readonly #program: Program;

  constructor(program: Program) {
    this.#program = program;
    for (const statement of program.statements) {
      if (statement.kind === 'block') this.#nameBlock(statement);
      else if (statement.kind !== 'import') this.#nameValue(statement);
    }
  }

  meanings(): readonly Meaning[] {
    for (const statement of this.#program.statements) {
      if (statement.kind === 'block') this.#block(statement);
      else if (statement.kind !== 'import' && statement.value) this.#untyped(statement.value);
    }
    return this.#found.sort((a, b) => a.span.start - b.span.start);
  }

  #nameBlock(block: BlockStatement): void {
    const { blockKind, name } = block;
    if (name === undefined || blockKind.text === 'save') return;
    const isWord = 'text' in name;
    const text = isWord ? name.text : name.parts.filter((part) => typeof part === 'string').join('');
    const span = isWord ? name.span : { ...name.span, start: name.span.start + 1, end: name.span.end - 1 };
    const named = this.blocks.get(text) ?? { kind: 'block', name: text, span, statement: block };
    if (!this.blocks.has(text)) {
      this.blocks.set(text, named);
      const kind = isBlockKind(blockKind.text) ? blockKind.text : 'unknown';
      this.#kinds.set(text, { kind, span });
    }
    this.#found.push({ kind: named.statement === block ? 'definition' : 'use', span, of: named });
  }

  #nameValue(definition: Definition): void {
    const { text, span } = definition.name;
    const named = this.values.get(text) ?? { kind: definition.kind, name: text, span, statement: definition };
    this.values.set(text, named);
    this.#found.push({ kind: named.statement === definition ? 'definition' : 'use', span, of: named });
  }

  #block(block: BlockStatement): void {
    const { blockKind, name, extending, attributes } = block;
    const kind = blockKind.text;
    if (name !== undefined && kind === 'save' && !('text' in name)) this.#untyped(name);
    if (extending !== undefined) this.#use(extending.span, this.blocks.get(extending.text));
    if (!isBlockKind(kind)) return;
    this.#found.push({ kind: 'block-kind', span: blockKind.span, blockKind: kind, doc: blockDocs[kind] });
    this.#attributes(block, [], fieldsOf(kind), attributes);
  }

  #attributes(block: BlockStatement, path: readonly string[], fields: Fields, attributes: readonly Attribute[]): void {
    for (const { name, value } of attributes) {
      const setting = Object.hasOwn(fields, name.text) ? fields[name.text] : undefined;
      if (setting === undefined) {
        this.#untyped(value);
        continue;
      }
      const place = { block, path: [...path, name.text], setting };
      this.#found.push({ kind: 'attribute', span: name.span, place });
      this.#value(place, setting.type, value);
    }
  }

  #value(place: Place, type: Type, value: Expression): void {
    switch (value.kind) {
      case 'word':
        this.#word(place, type, value);
        break;
      case 'list': {
        const items = typesIn(type, 'list')[0];
        // Otherwise LoRAs that are added up, which are a list without a type of its own.
        for (const item of value.items) this.#value(place, items?.kind === 'list' ? items.of : type, item);
        break;
      }
      case 'record':
        this.#record(place, type, value.tag, value.entries);
        break;
      case 'negate':
      case 'binary':
        for (const part of partsOf(value)) this.#value(place, type, part);
        break;
      default:
        this.#untyped(value);
    }
  }

  #word(place: Place, type: Type, word: Name): void {
    const { text, span } = word;
    const claiming = typesIn(type).find((one) => claims(one, word, (other) => this.#kinds.has(other.text)));
    if (claiming === undefined) this.#use(span, this.values.get(text));
    else if (claiming.kind === 'reference' || claiming.kind === 'weighted-references')
      this.#use(span, this.blocks.get(text));
    else if (claiming.kind === 'tagged') this.#found.push({ kind: 'tag', span, tag: text, place });
    else this.#found.push({ kind: 'word', span, word: text, place });
  }

  #record(place: Place, type: Type, tag: Name | undefined, entries: readonly Attribute[]): void {
    const one = typesIn(type).find((each) => isRecordOf(each, tag?.text));
    if (one?.kind === 'record') {
      this.#attributes(place.block, place.path, one.fields, entries);
    } else if (one?.kind === 'tagged' && tag !== undefined) {
      this.#found.push({ kind: 'tag', span: tag.span, tag: tag.text, place });
      this.#attributes(place.block, place.path, one.variants[tag.text] ?? {}, entries);
    } else {
      for (const { name, value } of entries) {
        if (one?.kind === 'weighted-references') {
          this.#use(name.span, this.blocks.get(name.text) ?? this.values.get(name.text));
        }
        if (one?.kind === 'block-numbers') {
          this.#found.push({ kind: 'word', span: withoutQuotes(name.span), word: name.text, place });
        }
        this.#untyped(value);
      }
    }
  }

  /** A value of which nobody says what it should be: in a `let`, in a text, or behind a name that does not exist. */
  #untyped(value: Expression): void {
    if (value.kind === 'word') this.#use(value.span, this.values.get(value.text) ?? this.blocks.get(value.text));
    if (value.kind === 'choice') this.#use(value.of.span, this.blocks.get(value.of.text));
    for (const part of partsOf(value)) this.#untyped(part);
  }

  #use(span: Span, of: Named | undefined): void {
    if (of !== undefined) this.#found.push({ kind: 'use', span: withoutQuotes(span), of });
  }
}

/** The alternatives of a type, or those among them of one kind. */
export function typesIn(type: Type, kind?: Type['kind']): readonly Type[] {
  const all = type.kind === 'either' ? type.of : [type];
  return kind === undefined ? all : all.filter((one) => one.kind === kind);
}

function isRecordOf(type: Type, tag: string | undefined): boolean {
  if (type.kind === 'tagged') return tag !== undefined && Object.hasOwn(type.variants, tag);
  return tag === undefined && ['record', 'weighted-references', 'block-numbers'].includes(type.kind);
}

/** The expressions that an expression is made of. */
function partsOf(value: Expression): readonly Expression[] {
  switch (value.kind) {
    case 'list':
      return value.items;
    case 'record':
      return value.entries.map((entry) => entry.value);
    case 'text':
      return value.parts.filter((part) => typeof part !== 'string');
    case 'choice':
      return value.given ?? [];
    case 'call':
      return value.given;
    case 'negate':
      return [value.of];
    case 'binary':
      return [value.left, value.right];
    default:
      return [];
  }
}

function withoutQuotes(span: Span): Span {
  const isQuoted = /["']/.test(span.source.text[span.start] ?? '');
  return isQuoted ? { ...span, start: span.start + 1, end: span.end - 1 } : span;
}
