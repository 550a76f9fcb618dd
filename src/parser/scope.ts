// What names mean while a program is checked: blocks, and the values of lets and params.

import type { BlockStatement, Definition, Expression } from './ast.ts';
import type { Diagnostic, Via } from './diagnostics.ts';
import * as problem from './diagnostics.ts';
import type { BlockKind } from './schema.ts';
import type { Span } from './source.ts';
import { isSweep, type SweptValue } from './sweeps.ts';

export interface Scope {
  readonly blocks: ReadonlyMap<string, NamedBlock>;
  /** Lets and params; a param that was set on the command line has that value. */
  readonly definitions: ReadonlyMap<string, Definition>;
  /** Blocks as they are written, by name: of two of one name the first. */
  readonly statements: ReadonlyMap<string, BlockStatement>;
  /** The value of a sweep in the variant that is being checked. `undefined` where the sweep itself is wrong. */
  sweptValue(sweep: Expression): SweptValue | undefined;
  report(diagnostic: Diagnostic): void;
  /**
   * One step of evaluating. `undefined` instead of the result when the program asks for too many, or too deep a chain of
   * them, which is complained about once: a few lets that each use the last one twice would otherwise never end.
   */
  step<T>(span: Span, evaluate: () => T): T | undefined;
}

export interface NamedBlock {
  /** `unknown`: a kind that does not exist. It complains about nothing further. */
  readonly kind: BlockKind | 'unknown';
  readonly span: Span;
}

const mostSteps = 1_000_000;
const deepest = 400;

export function createScope(
  { blocks, definitions, statements }: Pick<Scope, 'blocks' | 'definitions' | 'statements'>,
  diagnostics: Diagnostic[],
): Scope {
  let [taken, depth] = [0, 0];
  let isTooComplex = false;
  const said = new Set<string>();
  return {
    blocks,
    definitions,
    statements,
    // Outside of any variant.
    sweptValue: () => undefined,
    report(diagnostic) {
      const key = mistakeOf(diagnostic);
      if (!said.has(key)) diagnostics.push(diagnostic);
      said.add(key);
    },
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
export function resolve(scope: Scope, value: Expression, claims: (word: string) => boolean): Resolved | undefined {
  const steps: { from: string; to: string; span: Span }[] = [];
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
    if (current.kind !== 'word' || claims(current.text)) break;
    const definition = scope.definitions.get(current.text);
    if (definition === undefined) break;
    if (steps.length >= deepest) {
      scope.report(problem.tooComplex(value.span));
      return undefined;
    }
    if (steps.some((step) => step.from === definition.name.text)) {
      scope.report(problem.cycle(steps.slice(steps.findIndex((step) => step.from === definition.name.text))));
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
    steps.push({ from: definition.name.text, to, span: next.span });
    current = next;
  }
  return { value: current, via, label };
}

/** Where a value stands: of a sweep, that of the value that this variant has. */
export function spanOfValue(scope: Scope, value: Expression): Span {
  return (isSweep(value) ? scope.sweptValue(value)?.value.span : undefined) ?? value.span;
}

export function definitionNames(scope: Scope): string[] {
  return [...scope.definitions.keys()];
}
