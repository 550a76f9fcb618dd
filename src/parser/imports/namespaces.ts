// What names mean in each file of a program. A file knows its own names, those of the files that it imports without a
// name, and those of the others with the name of the import before them: `kohya.raw`. What an imported file imports
// comes with it, in the same way. Each name is looked up from the file that wrote it, never from the one that uses it.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import type { Clash } from '../diagnostics/import.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { BlockStatement, Definition, Name } from '../reading/ast.ts';
import { type BlockKind, blockKinds, isBlockKind } from '../schema/schema.ts';
import type { SourceFile, Span } from '../source.ts';
import type { LinkedProgram, Module } from './imports.ts';

export interface NamedBlock {
  /** What the whole program calls it: with the name of the import before it, where the program has to write that. */
  readonly name: string;
  /** `unknown`: a kind that does not exist, or a file that could not be read. It complains about nothing further. */
  readonly kind: BlockKind | 'unknown';
  readonly span: Span;
  /** `undefined` where the file could not be read. */
  readonly statement: BlockStatement | undefined;
}

export interface Namespace {
  readonly module: Module;
  /** What stands before its names in the program: nothing, or `kohya.`. */
  readonly prefix: string;
  readonly blocks: ReadonlyMap<string, NamedBlock>;
  /** Lets and params; a param that was set on the command line has that value. */
  readonly definitions: Map<string, Definition>;
  /** Itself, and every file whose names it knows as they are. */
  readonly reach: readonly Namespace[];
  /** By the name of the import; `undefined` where the file could not be read. */
  readonly aliases: ReadonlyMap<string, Namespace | undefined>;
  /** False where a file that would be in reach could not be read: a name that is missing may be in there. */
  readonly isWhole: boolean;
}

/** A namespace while it is filled. */
type Growing = { -readonly [K in keyof Namespace]: Namespace[K] } & {
  readonly blocks: Map<string, NamedBlock>;
  readonly aliases: Map<string, Namespace | undefined>;
};

/** One for each file, the program's own first. */
export function nameAll({ modules }: LinkedProgram, diagnostics: Diagnostic[]): readonly Namespace[] {
  const spaces = new Map<Module, Growing>(
    modules.map((module) => [
      module,
      { module, prefix: '', blocks: new Map(), definitions: new Map(), reach: [], aliases: new Map(), isWhole: true },
    ]),
  );
  for (const space of spaces.values()) {
    space.reach = reachOf(space, spaces);
    space.isWhole = !space.reach.some(({ module }) =>
      module.imports.some((one) => one.module === undefined && one.statement.alias === undefined),
    );
  }
  const all = [...spaces.values()];
  for (const space of all) collectAliases(space, spaces, diagnostics);
  setPrefixes(all[0] as Growing);
  for (const space of all) {
    collectDefinitions(space, diagnostics);
    collectBlocks(space, diagnostics);
  }
  for (const space of all) reportClashes(space, spaces, diagnostics);
  return all;
}

function reachOf(space: Growing, spaces: ReadonlyMap<Module, Growing>): readonly Growing[] {
  const reach = new Set([space]);
  // Grows while it is walked.
  for (const { module } of reach) {
    for (const { statement, module: other } of module.imports) {
      const next = other && spaces.get(other);
      if (statement.alias === undefined && next !== undefined) reach.add(next);
    }
  }
  return [...reach];
}

function collectAliases(space: Growing, spaces: ReadonlyMap<Module, Growing>, diagnostics: Diagnostic[]): void {
  const places = new Map<string, Span>();
  for (const { statement, module } of space.module.imports) {
    const { alias } = statement;
    if (alias === undefined) continue;
    const first = places.get(alias.text);
    if (first !== undefined) diagnostics.push(problem.duplicateName(alias, first));
    else {
      places.set(alias.text, alias.span);
      space.aliases.set(alias.text, module && spaces.get(module));
    }
  }
}

/** The shortest that leads to each file. Files in reach of each other have the same. */
function setPrefixes(root: Growing): void {
  const seen = new Set<Namespace>();
  // Grows while it is walked.
  const starts: { readonly space: Namespace; readonly prefix: string }[] = [{ space: root, prefix: '' }];
  for (const { space: start, prefix } of starts) {
    for (const space of start.reach as readonly Growing[]) {
      if (seen.has(space)) continue;
      seen.add(space);
      space.prefix = prefix;
      for (const [alias, next] of space.aliases) {
        if (next !== undefined) starts.push({ space: next, prefix: `${prefix}${alias}.` });
      }
    }
  }
}

function collectDefinitions({ module, definitions }: Growing, diagnostics: Diagnostic[]): void {
  for (const statement of module.program.statements) {
    if (statement.kind !== 'let' && statement.kind !== 'param') continue;
    const first = definitions.get(statement.name.text);
    if (first === undefined) definitions.set(statement.name.text, statement);
    else diagnostics.push(problem.duplicateName(statement.name, first.name.span));
  }
}

/** Every name before any is used, so that the order of blocks does not matter. */
function collectBlocks({ module, prefix, blocks }: Growing, diagnostics: Diagnostic[]): void {
  for (const block of module.program.statements) {
    if (block.kind !== 'block') continue;
    const { blockKind, name } = block;
    const kind: BlockKind | 'unknown' = isBlockKind(blockKind.text) ? blockKind.text : 'unknown';
    if (kind === 'unknown') diagnostics.push(problem.unknownKind(blockKind, nearest(blockKind.text, blockKinds)));
    if (name === undefined || kind === 'save') continue;
    const text = 'text' in name ? name.text : name.parts.filter((part) => typeof part === 'string').join('');
    const first = blocks.get(text);
    if (!('text' in name) && kind !== 'unknown') diagnostics.push(problem.quotedName(name.span, kind, text));
    if (first !== undefined) diagnostics.push(problem.duplicateName({ text, span: name.span }, first.span));
    else blocks.set(text, { name: `${prefix}${text}`, kind, span: name.span, statement: block });
  }
}

/** A name, who brings it into a file, and where it is defined. */
interface Bringing {
  readonly by: Module | undefined;
  readonly span: Span;
}

/**
 * Names that a file would know from two places. Where both come through the same import, the file on the way has been
 * told; and one thing that comes through two imports is no clash.
 */
function reportClashes(space: Growing, spaces: ReadonlyMap<Module, Growing>, diagnostics: Diagnostic[]): void {
  const { module: own } = space;
  const plain = own.imports.filter(({ statement, module }) => statement.alias === undefined && module !== undefined);
  const dotted = new Map([...space.aliases.keys()].map((alias) => [alias, aliasOf(own, alias)] as const));
  if (plain.length === 0 && dotted.size === 0) return;
  const taken = new Map<string, Bringing>();
  const seen = new Set<Namespace>();
  for (const { by, statement } of [{ by: undefined, statement: undefined }, ...plain.map(byItself)]) {
    const clashes: Clash[] = [];
    for (const one of by === undefined ? [space] : ((spaces.get(by) as Growing).reach as readonly Growing[])) {
      if (seen.has(one)) continue;
      seen.add(one);
      for (const { key, name, span } of namesOf(one)) {
        const other = taken.get(key);
        if (other === undefined) taken.set(key, { by, span });
        else if (other.by !== by) clashes.push({ name, taken: other.span, brought: span });
        const alias = dotted.get(name.split('.', 1)[0] as string);
        if (alias !== undefined && name.includes('.')) diagnostics.push(problem.duplicateName(alias, span));
      }
    }
    if (clashes.length > 0 && statement?.path !== undefined) {
      diagnostics.push(problem.importClash(statement.path.span, aliasFor(statement.path.text), clashes));
    }
  }
}

const byItself = ({ statement, module }: Module['imports'][number]) => ({ by: module, statement });

const aliasOf = ({ imports }: Module, alias: string): Name | undefined =>
  imports.find(({ statement }) => statement.alias?.text === alias)?.statement.alias;

/** Blocks, values and imports have names apart from each other. */
function* namesOf({ module, blocks, definitions, aliases }: Namespace) {
  for (const [name, { span }] of blocks) yield { key: `block ${name}`, name, span };
  for (const [name, definition] of definitions) yield { key: `value ${name}`, name, span: definition.name.span };
  for (const name of aliases.keys()) {
    const span = aliasOf(module, name)?.span;
    if (span !== undefined) yield { key: `import ${name}`, name, span };
  }
}

/** `presets/style-recipe.lora` could be called `style_recipe`. */
function aliasFor(path: string): string {
  const stem = path.replace(/^.*[\\/:]/, '').replace(/\.lora$/i, '');
  return stem.replaceAll(/\W+/g, '_').replace(/^(?=\d|$)/, '_');
}

/** What a name leads to; `unreadable` where it may be in a file that could not be read. */
export type Found<T> =
  | { readonly space: Namespace; readonly key: string; readonly value: T }
  | 'unreadable'
  | undefined;

export function findBlock(from: Namespace, name: string): Found<NamedBlock> {
  return find(from, name, ({ blocks }) => blocks);
}

export function findDefinition(from: Namespace, name: string): Found<Definition> {
  return find(from, name, ({ definitions }) => definitions);
}

function find<T>(from: Namespace, name: string, valuesOf: (space: Namespace) => ReadonlyMap<string, T>): Found<T> {
  let [space, key] = [from, name];
  for (;;) {
    for (const one of space.reach) {
      const value = valuesOf(one).get(key);
      if (value !== undefined) return { space: one, key, value };
    }
    const dot = key.indexOf('.');
    const alias = dot < 0 ? undefined : key.slice(0, dot);
    const owner = alias === undefined ? undefined : space.reach.find(({ aliases }) => aliases.has(alias));
    if (alias === undefined || owner === undefined) return space.isWhole ? undefined : 'unreadable';
    const next = owner.aliases.get(alias);
    if (next === undefined) return 'unreadable';
    [space, key] = [next, key.slice(dot + 1)];
  }
}

/** As many as a message could be about. */
const mostNames = 2000;

/** The names that a file can write, and what they lead to, those of imports with one name before them among them. */
export function* visible<T>(
  { reach }: Namespace,
  valuesOf: (space: Namespace) => ReadonlyMap<string, T>,
): Generator<readonly [string, T]> {
  let left = mostNames;
  for (const one of reach) yield* valuesOf(one);
  for (const { aliases } of reach) {
    for (const [alias, target] of aliases) {
      for (const one of target?.reach ?? []) {
        for (const [name, value] of valuesOf(one)) {
          if (left <= 0) return;
          left -= 1;
          yield [`${alias}.${name}`, value];
        }
      }
    }
  }
}

/** Words from the command line or the environment have no file of their own: they mean what the program's file says. */
export function homeOf(spaces: readonly Namespace[]): (source: SourceFile) => Namespace {
  const bySource = new Map(spaces.map((space) => [space.module.source, space]));
  return (source) => bySource.get(source) ?? (spaces[0] as Namespace);
}
