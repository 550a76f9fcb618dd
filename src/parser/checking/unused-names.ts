// Names that nobody uses, in a program that saves something: most likely one was forgotten where it belongs. Judged by
// words alone, wherever they stand, so that a name that is used is never called unused.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import type { Attribute, Expression, Program, Statement } from '../reading/ast.ts';

/** What takes time to make, and is there for what is made from it. */
const steps = new Set(['train', 'resize', 'chop', 'merge']);

/** `program` is the file that is built: what an imported one has is there for others. */
export function unusedNames({ statements }: Program): Diagnostic[] {
  const saves = statements.find((statement) => statement.kind === 'block' && statement.blockKind.text === 'save');
  if (saves?.kind !== 'block') return [];
  return statements.flatMap((statement) => {
    const name = nameOf(statement);
    if (name === undefined || statements.some((other) => wordsIn(other).has(name.text))) return [];
    if (statement.kind === 'block') return [problem.unusedBlock(statement.header, name.text, saves.header)];
    return statement.kind === 'import' ? [] : [problem.unusedDefinition(name.span, statement.kind, name.text)];
  });
}

function nameOf(statement: Statement) {
  if (statement.kind === 'import') return undefined;
  if (statement.kind !== 'block') return statement.name;
  const { name, blockKind } = statement;
  return name === undefined || 'kind' in name || !steps.has(blockKind.text) ? undefined : name;
}

const remembered = new WeakMap<Statement, ReadonlySet<string>>();

/** All words of a statement that could be a name of something else; of `a.b.c` also `a` and `a.b`. */
function wordsIn(statement: Statement): ReadonlySet<string> {
  const known = remembered.get(statement);
  if (known !== undefined) return known;
  const words = new Set<string>();
  const add = (text: string) => {
    for (let at = text.indexOf('.'); at >= 0; at = text.indexOf('.', at + 1)) words.add(text.slice(0, at));
    words.add(text);
  };
  if (statement.kind === 'block') {
    if (statement.extending !== undefined) add(statement.extending.text);
    if (statement.name !== undefined && 'kind' in statement.name) walk(statement.name, add);
    walkAll(statement.attributes, add);
  } else if (statement.kind !== 'import' && statement.value !== undefined) {
    walk(statement.value, add);
  }
  remembered.set(statement, words);
  return words;
}

function walkAll(attributes: readonly Attribute[], add: (word: string) => void): void {
  for (const { name, value } of attributes) {
    // Names of LoRAs stand before their weights in a merge.
    add(name.text);
    walk(value, add);
  }
}

function walk(value: Expression, add: (word: string) => void): void {
  for (const part of Object.values(value)) {
    if (part === value.span) continue;
    for (const one of Array.isArray(part) ? part : [part]) {
      if (typeof one !== 'object' || one === null) continue;
      if ('value' in one && 'name' in one) walkAll([one as Attribute], add);
      else if ('kind' in one) walk(one as Expression, add);
      else if ('text' in one && 'span' in one) add((one as { readonly text: string }).text);
    }
  }
  if (value.kind === 'word') add(value.text);
}
