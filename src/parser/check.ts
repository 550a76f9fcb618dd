// The whole language room in one function: from the text of a .lora file, and of those that it imports, to a checked
// program. Pure: no files, no clock, no terminal.
//
// Its corners, as a text passes through them: `reading` (text to tree), `imports` (the files that belong together),
// `checking` by the table in `schema`, `sweeps` (one block to many), and `diagnostics` for all that is wrong on the way.
// Beside them `explanations` of these, `format`, `editing` (what an editor asks), and `printed` (pages made from the table).

import { checkProgram } from './checking/checker.ts';
import type { Environment } from './checking/environment.ts';
import { unusedNames } from './checking/unused-names.ts';
import type { Diagnostic } from './diagnostics/diagnostics.ts';
import * as problem from './diagnostics/diagnostics.ts';
import { type ImportedFiles, type LinkedProgram, linkProgram, type Module } from './imports/imports.ts';
import type { CheckedProgram } from './model.ts';
import { readSource, withoutConsequences } from './reading/read-source.ts';
import type { SourceFile } from './source.ts';

export { type ImportedFiles, type LinkedProgram, type Loaded, linkProgram } from './imports/imports.ts';
export { type Reading, readSource } from './reading/read-source.ts';

export interface CompileOptions {
  /** From the command line, by name: `-p name=value`. */
  readonly params: ReadonlyMap<string, string>;
  /** Where imports are looked for. Without it nothing can be imported. */
  readonly files?: ImportedFiles;
  /** What `env("NAME")` reads. Without it no variable is set. */
  readonly environment?: Environment;
}

const nothingSet: Environment = () => undefined;

export interface Compiled {
  /** `undefined` when a diagnostic is an error. */
  readonly program: CheckedProgram | undefined;
  /** In the order of the file; those about the command line come first, those in imported files last. */
  readonly diagnostics: readonly Diagnostic[];
  /** The file itself, then all that it imports. */
  readonly sources: readonly SourceFile[];
}

export function compile(source: SourceFile, { files, ...settings }: CompileOptions): Compiled {
  return checkLinked(linkProgram(readSource(source), files), settings);
}

/** Of files that have been read and found already: an editor has them in its hands. */
export function checkLinked(
  linked: LinkedProgram,
  { params, environment = nothingSet }: Omit<CompileOptions, 'files'>,
): Compiled {
  const { source } = linked.root;
  const checked = checkProgram(linked, { params, environment });
  const written = linked.modules.flatMap(({ reading }) => reading.diagnostics);
  const misfits = linked.modules.flatMap(({ reading }) => reading.misfits);
  const meant = withoutConsequences(misfits, [...linked.diagnostics, ...checked.diagnostics]);
  const diagnostics = inOrder(linked.modules, [...written, ...meant]);
  const sources = linked.modules.map((module) => module.source);
  const hasErrors = diagnostics.some((diagnostic) => diagnostic.severity === 'error');
  if (hasErrors) return { program: undefined, diagnostics, sources };
  const isEmpty = checked.program.blocks.length === 0;
  const start = { source, start: 0, end: 0 };
  // Only now: a misspelt name would leave another one unused.
  const unused = unusedNames(linked.root.program);
  return {
    program: checked.program,
    diagnostics: isEmpty
      ? [problem.nothingAsked(start), ...diagnostics]
      : inOrder(linked.modules, [...diagnostics, ...unused]),
    sources,
  };
}

function inOrder(modules: readonly Module[], diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const ranks = new Map(modules.map(({ source }, index) => [source, index]));
  const rank = ({ span }: Diagnostic) => ranks.get(span.source) ?? -1;
  return diagnostics.toSorted((a, b) => rank(a) - rank(b) || a.span.start - b.span.start || a.span.end - b.span.end);
}
