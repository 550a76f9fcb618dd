// What has to be right about a run block as a whole: its command names everything that it reads and writes, each where
// a path can stand, and what it writes stays in a folder of its own.

import { placeholdersIn } from '../command.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { BlockOf, CheckedBlock } from '../model.ts';
import type { Span } from '../source.ts';
import type { Scope } from './scope.ts';

export function runRule(scope: Scope, block: BlockOf<'run'>): CheckedBlock | undefined {
  const isGood = [namesRule, placeholdersRule, pathsRule].map((rule) => rule(scope, block));
  return isGood.includes(false) ? undefined : block;
}

/** One name means one file. */
function namesRule(
  scope: Scope,
  { attributes: { inputs = {}, outputs }, attributeSpans, span }: BlockOf<'run'>,
): boolean {
  const both = Object.keys(outputs).filter((name) => Object.hasOwn(inputs, name));
  for (const name of both) scope.report(problem.inputAndOutput(attributeSpans.outputs ?? span, name));
  return both.length === 0;
}

function placeholdersRule(scope: Scope, { attributes, attributeSpans, span }: BlockOf<'run'>): boolean {
  const { command, inputs = {}, outputs } = attributes;
  const declared = [...Object.keys(inputs), ...Object.keys(outputs)];
  const written = attributeSpans.command ?? span;
  const found = placeholdersIn(command);
  const used = new Set(found.map(({ name }) => name));
  let isGood = true;
  const report = (diagnostic: ReturnType<typeof problem.unusedName>) => {
    isGood = false;
    scope.report(diagnostic);
  };
  for (const { name, start, end, isWord } of found) {
    const place = placeIn(written, command, start, end);
    if (declared.includes(name)) {
      if (!isWord) report(problem.quotedPlaceholder(place, name));
      // In quotes it is text, as in awk '{print}'.
    } else if (isWord) {
      const meant = nearest(name, declared);
      // One mistake is enough: the name that was meant is not missing as well.
      if (meant !== undefined) used.add(meant);
      report(problem.undeclaredName(place, name, meant, declared));
    }
  }
  for (const [kind, names, at] of [
    ['input', Object.keys(inputs), attributeSpans.inputs],
    ['output', Object.keys(outputs), attributeSpans.outputs],
  ] as const) {
    for (const name of names) if (!used.has(name)) report(problem.unusedName(at ?? span, name, kind));
  }
  return isGood;
}

/** A place in the command, where it is written as it is. */
function placeIn(written: Span, command: string, start: number, end: number): Span {
  const text = written.source.text.slice(written.start + 1, written.end - 1);
  if (text !== command) return written;
  return { source: written.source, start: written.start + 1 + start, end: written.start + 1 + end };
}

/** Outputs lie in a folder that is lorac's until they are stored. */
function pathsRule(scope: Scope, { attributes: { outputs }, attributeSpans, span }: BlockOf<'run'>): boolean {
  const place = attributeSpans.outputs ?? span;
  const paths = Object.entries(outputs);
  const odd = paths.filter(([, path]) => !isInside(path));
  for (const [name, path] of odd) scope.report(problem.outputOutside(place, name, path));
  const folded = paths.map(([name, path]) => ({ name, path: path.toLowerCase() }));
  const clashing = folded.filter(({ path }, index) =>
    folded.some((other, place) => place < index && clash(path, other.path)),
  );
  for (const { name } of clashing) scope.report(problem.sameOutput(place, name));
  return odd.length === 0 && clashing.length === 0;
}

/** `report.txt`, `pages/one.html`: no way out of the folder, on any system. */
function isInside(path: string): boolean {
  return path.split('/').every((part) => !/^\.{0,2}$|^~|[\\:\n\t\r\0]/.test(part));
}

/** Some systems take two names that differ in case for one, and no file is a folder as well. */
function clash(one: string, other: string): boolean {
  return one === other || one.startsWith(`${other}/`) || other.startsWith(`${one}/`);
}
