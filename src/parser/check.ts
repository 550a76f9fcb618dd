// The whole language room in one function: from the text of a .lora file to a checked program.
// Pure: no files, no clock, no terminal.

import type { Program } from './ast.ts';
import { buildAst } from './build-ast.ts';
import { checkProgram } from './checker.ts';
import { parseProgram } from './cst.ts';
import type { Diagnostic } from './diagnostics.ts';
import * as problem from './diagnostics.ts';
import { misfitDiagnostics } from './misfits.ts';
import type { CheckedProgram } from './model.ts';
import type { SourceFile } from './source.ts';
import { arrangeTokens } from './token-stream.ts';
import { lex, type Token } from './tokens.ts';

export interface CompileOptions {
  /** From the command line, by name: `-p name=value`. */
  readonly params: ReadonlyMap<string, string>;
}

export interface Compiled {
  /** `undefined` when a diagnostic is an error. */
  readonly program: CheckedProgram | undefined;
  /** In the order of the file; those about the command line come first. */
  readonly diagnostics: readonly Diagnostic[];
}

export function compile(source: SourceFile, options: CompileOptions): Compiled {
  return checkReading(readSource(source), options);
}

/** What stands in a file, before anyone asks what it means. An editor asks for it on its own. */
export interface Reading {
  readonly program: Program;
  /** With their roles, every bracket with its partner. */
  readonly tokens: readonly Token[];
  readonly comments: readonly Token[];
  /** What is wrong with the form of it. */
  readonly diagnostics: readonly Diagnostic[];
  /** Those among them that are about places where the grammar lost its way. */
  readonly misfits: readonly Diagnostic[];
}

export function readSource(source: SourceFile): Reading {
  const { tokens: written, comments } = lex(source.text);
  const { tokens, diagnostics } = arrangeTokens(source, written);
  const parsed = parseProgram(tokens);
  const built = buildAst(source, parsed.tree);
  const misfits = misfitDiagnostics(source, parsed.misfits);
  const found = [...diagnostics, ...misfits, ...withoutConsequences(misfits, built.diagnostics)];
  return { program: built.program, tokens, comments, diagnostics: found, misfits };
}

export function checkReading(
  { program: written, diagnostics: found, misfits }: Reading,
  options: CompileOptions,
): Compiled {
  const { source } = written;
  const checked = checkProgram(written, options.params);
  const diagnostics = inOrder(source, [...found, ...withoutConsequences(misfits, checked.diagnostics)]);
  const hasErrors = diagnostics.some((diagnostic) => diagnostic.severity === 'error');
  if (hasErrors) return { program: undefined, diagnostics };
  const isEmpty = checked.program.blocks.length === 0;
  const start = { source, start: 0, end: 0 };
  return {
    program: checked.program,
    diagnostics: isEmpty ? [problem.nothingAsked(start), ...diagnostics] : diagnostics,
  };
}

/** Where the grammar lost its way, the rest of the line says nothing reliable. */
function withoutConsequences(misfits: readonly Diagnostic[], later: readonly Diagnostic[]): Diagnostic[] {
  const lost = misfits.map(({ span }) => {
    const end = span.source.text.indexOf('\n', span.start);
    return { source: span.source, start: span.start, end: end < 0 ? span.source.text.length : end };
  });
  return later.filter(
    ({ span, code }) =>
      !lost.some(
        (line) =>
          line.source === span.source &&
          span.end >= line.start - 2 &&
          span.start <= line.end &&
          (span.start >= line.start || code === 'missing-value'),
      ),
  );
}

function inOrder(source: SourceFile, diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const rank = (diagnostic: Diagnostic) => (diagnostic.span.source === source ? 1 : 0);
  return diagnostics.toSorted((a, b) => rank(a) - rank(b) || a.span.start - b.span.start || a.span.end - b.span.end);
}
