// What stands in one file, before anyone asks what it means or what other files say. An editor asks for it on its own.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import type { SourceFile } from '../source.ts';
import type { Program } from './ast.ts';
import { buildAst } from './build-ast.ts';
import { parseProgram } from './cst.ts';
import { misfitDiagnostics } from './misfits.ts';
import { arrangeTokens } from './token-stream.ts';
import { lex, type Token } from './tokens.ts';

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

const known = new WeakMap<SourceFile, Reading>();

/** Remembered by the file itself: an editor checks a program at every key, and what it imports stays the same. */
export function readSource(source: SourceFile): Reading {
  const remembered = known.get(source);
  if (remembered !== undefined) return remembered;
  const { tokens: written, comments } = lex(source.text);
  const { tokens, diagnostics } = arrangeTokens(source, written);
  const parsed = parseProgram(tokens);
  const built = buildAst(source, parsed.tree);
  const misfits = misfitDiagnostics(source, parsed.misfits);
  const found = [...diagnostics, ...misfits, ...withoutConsequences(misfits, built.diagnostics)];
  const reading: Reading = { program: built.program, tokens, comments, diagnostics: found, misfits };
  known.set(source, reading);
  return reading;
}

/** Where the grammar lost its way, the rest of the line says nothing reliable. */
export function withoutConsequences(misfits: readonly Diagnostic[], later: readonly Diagnostic[]): Diagnostic[] {
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
