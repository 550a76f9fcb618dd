// What names mean while a program is checked: blocks, and the values of lets and params.

import type { Definition, Expression } from './ast.ts';
import type { Diagnostic, Via } from './diagnostics.ts';
import * as problem from './diagnostics.ts';
import type { BlockKind } from './schema.ts';
import type { Span } from './source.ts';

export interface Scope {
  readonly blocks: ReadonlyMap<string, NamedBlock>;
  /** Lets and params; a param that was set on the command line has that value. */
  readonly definitions: ReadonlyMap<string, Definition>;
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

const mostSteps = 100_000;
const deepest = 400;

export function createScope(
  blocks: Scope['blocks'],
  definitions: Scope['definitions'],
  diagnostics: Diagnostic[],
): Scope {
  let [taken, depth] = [0, 0];
  let isTooComplex = false;
  const said = new Set<string>();
  return {
    blocks,
    definitions,
    // What is used in many places, or inherited, is wrong in one. Only what is missing has no place of its own.
    report(diagnostic) {
      const { code, span, message } = diagnostic;
      const key = `${code} ${span.source.path} ${span.start} ${code === 'missing-attribute' ? message : ''}`;
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

/**
 * Follows names of lets and params to a value that is written out. A word that `claims` wants stays a word, and so does
 * one that nothing is called. `undefined` after complaining that names go round in a circle.
 */
export function resolve(
  scope: Scope,
  value: Expression,
  claims: (word: string) => boolean,
): { readonly value: Expression; readonly via: Via | undefined } | undefined {
  const steps: { from: string; to: string; span: Span }[] = [];
  let current = value;
  let via: Via | undefined;
  while (current.kind === 'word' && !claims(current.text)) {
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
    if (definition.value === undefined) return { value: { kind: 'broken', span: current.span }, via };
    via ??= { name: current.text, usedAt: value.span, definedAt: definition.name.span };
    const next = definition.value;
    const to = next.kind === 'word' ? next.text : definition.name.text;
    steps.push({ from: definition.name.text, to, span: next.span });
    current = next;
  }
  return { value: current, via };
}

export function definitionNames(scope: Scope): string[] {
  return [...scope.definitions.keys()];
}
