// What names mean while a program is checked: blocks, and the values of lets and params.

import type { Diagnostic, Via } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { findBlock, findDefinition, homeOf, type NamedBlock, type Namespace, visible } from '../imports/namespaces.ts';
import type { CallExpression, Definition, Expression, Name, WordExpression } from '../reading/ast.ts';
import type { SourceFile, Span } from '../source.ts';
import { isSweep, type SweptValue } from '../sweeps/sweeps.ts';
import type { Reference } from '../values.ts';
import { type Environment, readVariable, type Variable } from './environment.ts';

export type { NamedBlock } from '../imports/namespaces.ts';

export interface Scope {
  /** A word means what it means in the file that wrote it, which its span knows. */
  blockNamed(word: Name): NamedBlock | undefined;
  isBlock(word: Name): boolean;
  definitionNamed(word: Name): Definition | undefined;
  /** What kind of block a reference leads to. */
  kindOf(reference: Reference): NamedBlock['kind'] | undefined;
  /** The blocks that a file can name, as it would write them. */
  blocksSeenBy(source: SourceFile): readonly (readonly [string, NamedBlock])[];
  /** The lets and params that a file can name, as it would write them. */
  definitionsSeenBy(source: SourceFile): readonly string[];
  /** The file whose folder relative paths of a source start at. */
  fileOf(source: SourceFile): SourceFile;
  /** A block that a block of the program is made from is one of the program, whatever file it is in. */
  ask(block: NamedBlock): void;
  /** What `env("NAME")` stands for. `undefined` where it has no value, which has been complained about. */
  variable(call: CallExpression): Variable | undefined;
  /** The value of a sweep in the variant that is being checked. `undefined` where the sweep itself is wrong. */
  sweptValue(sweep: Expression): SweptValue | undefined;
  /** Where schedules are written that are more than a word: values deep in a block have no place of their own. */
  readonly schedulePlaces: WeakMap<object, Span>;
  report(diagnostic: Diagnostic): void;
  /**
   * One step of evaluating. `undefined` instead of the result when the program asks for too many, or too deep a chain of
   * them, which is complained about once: a few lets that each use the last one twice would otherwise never end.
   */
  step<T>(span: Span, evaluate: () => T): T | undefined;
}

const mostSteps = 1_000_000;
const deepest = 400;

/** `ask` hears of each block that another is made from. */
export function createScope(
  spaces: readonly Namespace[],
  { environment, ask }: { readonly environment: Environment; readonly ask: (block: NamedBlock) => void },
  diagnostics: Diagnostic[],
): Scope {
  let [taken, depth] = [0, 0];
  let isTooComplex = false;
  const said = new Set<string>();
  const report = (diagnostic: Diagnostic) => {
    const key = mistakeOf(diagnostic);
    if (!said.has(key)) diagnostics.push(diagnostic);
    said.add(key);
  };
  const variables = new Map<CallExpression, Variable | undefined>();
  return {
    ...namesOf(spaces),
    ask,
    report,
    variable(call) {
      // Read once, so that its value is one expression wherever it is used.
      if (!variables.has(call)) variables.set(call, readVariable(call, { environment, spaces, report }));
      return variables.get(call);
    },
    schedulePlaces: new WeakMap(),
    // Outside of any variant.
    sweptValue: () => undefined,
    step(span, evaluate) {
      taken += 1;
      if (taken > mostSteps || depth >= deepest) {
        if (!isTooComplex) diagnostics.push(problem.tooComplex(span));
        isTooComplex = true;
        return undefined;
      }
      depth += 1;
      const result = evaluate();
      depth -= 1;
      return result;
    },
  };
}

type Names = Pick<
  Scope,
  'blockNamed' | 'isBlock' | 'definitionNamed' | 'kindOf' | 'blocksSeenBy' | 'definitionsSeenBy' | 'fileOf'
>;

function namesOf(spaces: readonly Namespace[]): Names {
  const home = homeOf(spaces);
  const blocks = new Map<Namespace, readonly (readonly [string, NamedBlock])[]>();
  const definitions = new Map<Namespace, readonly string[]>();
  const blockNamed = (word: Name): NamedBlock | undefined => {
    const found = findBlock(home(word.span.source), word.text);
    return found === 'unreadable'
      ? { name: word.text, kind: 'unknown', span: word.span, statement: undefined }
      : found?.value;
  };
  return {
    blockNamed,
    isBlock: (word) => blockNamed(word) !== undefined,
    definitionNamed(word) {
      const found = findDefinition(home(word.span.source), word.text);
      return found === 'unreadable'
        ? { kind: 'let', name: word, value: { kind: 'broken', span: word.span } }
        : found?.value;
    },
    kindOf({ block }) {
      const found = findBlock(spaces[0] as Namespace, block);
      return found === 'unreadable' ? 'unknown' : found?.value.kind;
    },
    blocksSeenBy: (source) => remembered(blocks, home(source), (space) => [...visible(space, (one) => one.blocks)]),
    definitionsSeenBy: (source) =>
      remembered(definitions, home(source), (space) =>
        [...visible(space, (one) => one.definitions)].map(([name]) => name),
      ),
    fileOf: (source) => home(source).module.source,
  };
}

function remembered<K, V>(known: Map<K, V>, key: K, make: (key: K) => V): V {
  const before = known.get(key);
  if (before !== undefined) return before;
  const value = make(key);
  known.set(key, value);
  return value;
}

/** What is used in many places, or inherited, is wrong in one. Only what is missing has no place of its own. */
export function mistakeOf({ code, span, message }: Diagnostic): string {
  return `${code} ${span.source.path} ${span.start} ${code === 'missing-attribute' ? message : ''}`;
}

export interface Resolved {
  readonly value: Expression;
  readonly via: Via | undefined;
  /** Where the value is one of a sweep: what it is called there. */
  readonly label: string | undefined;
}

/**
 * Follows names of lets and params to a value that is written out, through sweeps to the value that this variant has. A
 * word that `claims` wants stays a word, and so does one that nothing is called. `undefined` after complaining that
 * names go round in a circle.
 */
export function resolve(
  scope: Scope,
  value: Expression,
  claims: (word: WordExpression) => boolean,
): Resolved | undefined {
  const steps: { definition: Definition; from: string; to: string; span: Span }[] = [];
  let current = value;
  let via: Via | undefined;
  let label: string | undefined;
  for (;;) {
    if (isSweep(current)) {
      const swept = scope.sweptValue(current);
      if (swept === undefined) return { value: { kind: 'broken', span: current.span }, via, label };
      current = swept.value;
      label = swept.label;
      // A value in a sweep has a place of its own to point at.
      via = undefined;
      continue;
    }
    if (current.kind === 'call' && current.name.text === 'env') {
      const variable = scope.variable(current);
      if (variable === undefined) return { value: { kind: 'broken', span: current.span }, via, label };
      via ??= { name: variable.name, usedAt: current.span, definedAt: variable.definedAt };
      current = variable.value;
      continue;
    }
    if (current.kind !== 'word' || claims(current)) break;
    const definition = scope.definitionNamed(current);
    if (definition === undefined) break;
    if (steps.length >= deepest) {
      scope.report(problem.tooComplex(value.span));
      return undefined;
    }
    const before = steps.findIndex((step) => step.definition === definition);
    if (before >= 0) {
      scope.report(problem.cycle(steps.slice(before)));
      return undefined;
    }
    // A param without a value has been complained about.
    if (definition.value === undefined) return { value: { kind: 'broken', span: current.span }, via, label };
    via ??= {
      name: current.text,
      usedAt: label === undefined ? value.span : current.span,
      definedAt: definition.name.span,
    };
    const next = definition.value;
    const to = next.kind === 'word' ? next.text : definition.name.text;
    steps.push({ definition, from: definition.name.text, to, span: next.span });
    current = next;
  }
  return { value: current, via, label };
}

/** Where a value stands: of a sweep, that of the value that this variant has. */
export function spanOfValue(scope: Scope, value: Expression): Span {
  return (isSweep(value) ? scope.sweptValue(value)?.value.span : undefined) ?? value.span;
}
