// What each word of a program stands for: what is defined where, and who uses it. An editor reads this table; a compile
// has no need of it. It is made from what was written, so it is there for a program with mistakes too, and whatever
// cannot be understood is simply not in it.

import { claims } from '../checking/check-value.ts';
import type { LinkedProgram } from '../imports/imports.ts';
import { type Found, findBlock, findDefinition, type Namespace, nameAll, visible } from '../imports/namespaces.ts';
import {
  type Attribute,
  type BlockStatement,
  type Definition,
  type Expression,
  type ImportStatement,
  type Name,
  partsOf,
} from '../reading/ast.ts';
import { type BlockKind, blockDocs, fieldsOf, isBlockKind } from '../schema/schema.ts';
import type { Fields, Setting, Type } from '../schema/types.ts';
import type { SourceFile, Span } from '../source.ts';
import { isSweep } from '../sweeps/sweeps.ts';

/** Something that has a name: a block, what `let` and `param` define, or the file of an import with a name. */
export interface Named {
  readonly kind: 'block' | 'let' | 'param' | 'import';
  readonly name: string;
  /** Where the name is written that others repeat. Without its quotes, if it has any. */
  readonly span: Span;
  readonly statement: BlockStatement | Definition | ImportStatement;
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
  /** The path of an import. */
  | { readonly kind: 'file'; readonly source: SourceFile }
  /** The word in front of a record's braces. */
  | { readonly kind: 'tag'; readonly tag: string; readonly place: Place }
  /** A word that the attribute itself knows: `bf16`, `true`, `OUT01`, `step`. */
  | { readonly kind: 'word'; readonly word: string; readonly place: Place }
);

export interface Symbols {
  /** What the file can write, by what it writes: of two of one name the first. */
  readonly blocks: ReadonlyMap<string, Named>;
  readonly values: ReadonlyMap<string, Named>;
  /** In the order of the text; none lies in another. */
  readonly meanings: readonly Meaning[];
  /** The same of the files that it imports. */
  readonly elsewhere: readonly Meaning[];
}

/** Names at once; what each word means when somebody asks, since a completion does without. */
export function symbolsOf(linked: LinkedProgram): Symbols {
  const spaces = nameAll(linked, []);
  const known = new Map<Named['statement'], Named>();
  const [root, ...others] = spaces.map((space) => new Walk(space, known)) as [Walk, ...Walk[]];
  let [meanings, elsewhere]: (readonly Meaning[] | undefined)[] = [];
  return {
    blocks: root.names(({ blocks }) => new Map([...blocks].map(([name, { statement }]) => [name, statement]))),
    values: root.names(({ definitions }) => definitions),
    get meanings() {
      meanings ??= root.meanings();
      return meanings;
    },
    get elsewhere() {
      elsewhere ??= others.flatMap((walk) => walk.meanings());
      return elsewhere;
    },
  };
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

/** Every place where a name is written, its definition among them, also in imported files. */
export function placesOfName({ meanings, elsewhere }: Symbols, named: Named): readonly Meaning[] {
  return [...meanings, ...elsewhere].filter(
    (one) => (one.kind === 'use' || one.kind === 'definition') && one.of === named,
  );
}

/** One file. What has a name is known to all of them by the statement that gives it. */
class Walk {
  readonly #found: Meaning[] = [];
  readonly #space: Namespace;
  readonly #known: Map<Named['statement'], Named>;

  constructor(space: Namespace, known: Map<Named['statement'], Named>) {
    this.#space = space;
    this.#known = known;
  }

  meanings(): readonly Meaning[] {
    const { module } = this.#space;
    for (const { statement, module: imported } of module.imports) {
      if (statement.alias) this.#define(statement.alias.span, this.#named(statement));
      if (statement.path && imported) {
        this.#found.push({ kind: 'file', span: statement.path.span, source: imported.source });
      }
    }
    for (const statement of module.program.statements) {
      if (statement.kind === 'block') this.#block(statement);
      else if (statement.kind !== 'import') {
        const first = this.#space.definitions.get(statement.name.text);
        this.#define(statement.name.span, this.#named(first ?? statement));
        if (statement.value) this.#untyped(statement.value);
      }
    }
    return this.#found.sort((a, b) => a.span.start - b.span.start);
  }

  names(of: (space: Namespace) => ReadonlyMap<string, Named['statement'] | undefined>): ReadonlyMap<string, Named> {
    const names = new Map<string, Named>();
    for (const [name, statement] of visible(this.#space, of)) {
      const named = statement && this.#named(statement);
      if (named !== undefined && !names.has(name)) names.set(name, named);
    }
    return names;
  }

  #named(statement: Named['statement']): Named | undefined {
    const known = this.#known.get(statement);
    if (known !== undefined) return known;
    const name = statement.kind === 'import' ? statement.alias : statement.name;
    if (name === undefined) return undefined;
    const text = 'text' in name ? name.text : name.parts.filter((part) => typeof part === 'string').join('');
    const span = 'text' in name ? name.span : withoutQuotes(name.span);
    const named: Named = { kind: statement.kind, name: text, span, statement };
    this.#known.set(statement, named);
    return named;
  }

  /** The second thing of a name belongs to the first: renamed, it is still in its way. */
  #define(written: Span, of: Named | undefined): void {
    const span = withoutQuotes(written);
    if (of === undefined) return;
    const isFirst = of.span.source === span.source && of.span.start === span.start;
    this.#found.push({ kind: isFirst ? 'definition' : 'use', span, of });
  }

  #block(block: BlockStatement): void {
    const { blockKind, name, extending, attributes } = block;
    const kind = blockKind.text;
    if (name !== undefined && kind === 'save' && !('text' in name)) this.#untyped(name);
    if (name !== undefined && kind !== 'save') {
      const text = 'text' in name ? name.text : name.parts.filter((part) => typeof part === 'string').join('');
      this.#define(name.span, this.#named(this.#space.blocks.get(text)?.statement ?? block));
    }
    if (extending !== undefined) this.#blockName(extending);
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
    // Each value of a sweep is one of the setting.
    if (isSweep(value)) {
      for (const part of partsOf(value)) this.#value(place, type, part);
      return;
    }
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
    const isBlock = (name: Name) => this.#isFound(findBlock(this.#space, name.text));
    const claiming = typesIn(type).find((one) => claims(one, word, isBlock));
    if (claiming === undefined && typesIn(type, 'reference').length > 0) this.#anyName(word);
    else if (claiming === undefined) this.#valueName(word);
    else if (claiming.kind === 'reference' || claiming.kind === 'weighted-references') this.#blockName(word);
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
          this.#anyName(name);
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
    if (value.kind === 'word') this.#anyName(value);
    if (value.kind === 'choice' || value.kind === 'variant') this.#blockName(value.of);
    for (const part of partsOf(value)) this.#untyped(part);
  }

  #anyName(name: Name): void {
    if (this.#isFound(findDefinition(this.#space, name.text))) this.#valueName(name);
    else if (this.#isFound(findBlock(this.#space, name.text))) this.#blockName(name);
    else {
      // `small.thr` is the value that a sweep of `small` has, and `report.text` what the run `report` writes, so its
      // beginning is the name of a block.
      const [head = ''] = name.text.split('.');
      if (head !== name.text)
        this.#blockName({ text: head, span: { ...name.span, end: name.span.start + head.length } });
    }
  }

  #valueName(name: Name): void {
    const found = findDefinition(this.#space, name.text);
    if (found !== undefined && found !== 'unreadable') this.#use(name, found.key, found.value);
  }

  #blockName(name: Name): void {
    const found = findBlock(this.#space, name.text);
    if (found !== undefined && found !== 'unreadable') this.#use(name, found.key, found.value.statement);
  }

  #isFound(found: Found<unknown>): boolean {
    return found !== undefined && found !== 'unreadable';
  }

  /** `key`: what the thing is called in its own file. What stands before it in `kohya.raw` is the name of an import. */
  #use({ text, span: written }: Name, key: string, statement: Named['statement'] | undefined): void {
    const span = withoutQuotes(written);
    const of = statement && this.#named(statement);
    if (of === undefined) return;
    const [alias = ''] = text.split('.');
    const importing = key === text ? undefined : this.#importCalled(alias);
    if (importing) this.#found.push({ kind: 'use', span: { ...span, end: span.start + alias.length }, of: importing });
    this.#found.push({ kind: 'use', span: { ...span, start: span.end - key.length }, of });
  }

  #importCalled(alias: string): Named | undefined {
    const owner = this.#space.reach.find(({ aliases }) => aliases.has(alias));
    const found = owner?.module.imports.find(({ statement }) => statement.alias?.text === alias);
    return found && this.#named(found.statement);
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

function withoutQuotes(span: Span): Span {
  const isQuoted = /["']/.test(span.source.text[span.start] ?? '');
  return isQuoted ? { ...span, start: span.start + 1, end: span.end - 1 } : span;
}
