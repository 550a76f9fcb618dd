// lorac check: everything that can be said without building. Diagnostics for people go to stderr, JSON to stdout.

import { jsonLine } from '../parser/clean-text.ts';
import type { Diagnostic } from '../parser/diagnostics.ts';
import type { CheckedProgram } from '../parser/model.ts';
import { positionOf, type Span } from '../parser/source.ts';
import { compileFile, explain, type ProgramOptions } from './compile-file.ts';
import { missingFiles } from './missing-files.ts';
import { placesOfUser } from './places.ts';

export interface CheckOptions extends ProgramOptions {
  readonly files: boolean;
  readonly format: 'text' | 'json';
}

export async function check(options: CheckOptions): Promise<number> {
  const { source, program, diagnostics: written } = compileFile(options);
  const diagnostics = [
    ...written,
    ...(program !== undefined && options.files ? missingFiles(program, placesOfUser()) : []),
  ];
  const ok = !diagnostics.some(({ severity }) => severity === 'error');
  if (options.format === 'json') {
    process.stdout.write(`${jsonLine({ file: source.path, ok, diagnostics: diagnostics.map(asJson) })}\n`);
    return ok ? 0 : 2;
  }
  explain(diagnostics);
  if (program !== undefined && ok) process.stdout.write([`${source.path} is good.`, ...notes(program), ''].join('\n'));
  return ok ? 0 : 2;
}

/** What is no mistake, and yet not what everyone expects. */
function notes({ blocks }: CheckedProgram): string[] {
  const silent = blocks.filter((block) => block.kind === 'train' && block.attributes.sample === undefined);
  return [...new Set(silent.map(({ name, variant }) => variant?.of ?? name))].map(
    (name) => `"${name}" makes no pictures while it trains: it has no sample = { prompts = … }.`,
  );
}

function asJson({ code, severity, message, span, related, hint }: Diagnostic) {
  return {
    code,
    severity,
    message,
    ...placeOf(span),
    hint,
    related: related.map((one) => ({ message: one.message, ...placeOf(one.span) })),
  };
}

/** Lines and columns from 1; the end is the first position behind the span. */
function placeOf(span: Span) {
  const { line, column } = positionOf(span);
  const end = positionOf({ ...span, start: span.end });
  return { file: span.source.path, line, column, endLine: end.line, endColumn: end.column };
}
