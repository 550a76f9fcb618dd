// lorac check: everything that can be said without building. Diagnostics for people go to stderr, JSON to stdout.

import { cleanLine, jsonLine } from '../parser/clean-text.ts';
import type { Diagnostic } from '../parser/diagnostics/diagnostics.ts';
import { fixProgram, type MadeFix } from '../parser/editing/fix-program.ts';
import type { CheckedProgram } from '../parser/model.ts';
import { positionOf, type Span } from '../parser/source.ts';
import { compileFile, compileOptions, explain, type ProgramOptions } from './compile-file.ts';
import { missingFiles } from './missing-files.ts';
import { placesOfUser } from './places.ts';
import { readProgram } from './program-file.ts';
import { rewriteFile } from './rewrite-file.ts';
import { unfitPatterns } from './unfit-patterns.ts';

export interface CheckOptions extends ProgramOptions {
  readonly files: boolean;
  /** Write into the file what can be mended without asking, before judging it. */
  readonly fix?: boolean;
  readonly format: 'text' | 'json';
}

export async function check(options: CheckOptions): Promise<number> {
  const fixed = options.fix === true ? await fix(options) : undefined;
  const { source, program, diagnostics: written } = compileFile(options);
  const diagnostics = [
    ...written,
    ...(program === undefined ? [] : unfitPatterns(program)),
    ...(program !== undefined && options.files ? missingFiles(program, placesOfUser()) : []),
  ];
  const ok = !diagnostics.some(({ severity }) => severity === 'error');
  if (options.format === 'json') {
    process.stdout.write(`${jsonLine({ file: source.path, ok, fixed, diagnostics: diagnostics.map(asJson) })}\n`);
    return ok ? 0 : 2;
  }
  for (const one of fixed ?? []) process.stdout.write(`${cleanLine(`${source.path}:${toldOf(one)}`)}\n`);
  explain(diagnostics);
  if (program !== undefined && ok) process.stdout.write([`${source.path} is good.`, ...notes(program), ''].join('\n'));
  return ok ? 0 : 2;
}

async function fix({ file, param }: ProgramOptions): Promise<readonly MadeFix[]> {
  const source = readProgram(file);
  const { text, made } = fixProgram(source, compileOptions(param));
  if (text !== source.text) await rewriteFile(source.path, text);
  return made;
}

function toldOf({ line, before, after, code }: MadeFix): string {
  const [old, now] = [before, after].map((text) => `"${brief(text)}"`);
  const done = before === '' ? `${now} is added` : after === '' ? `${old} is taken out` : `${old} is now ${now}`;
  return `${line}: ${done} [${code}]`;
}

function brief(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim();
  return line.length > 60 ? `${line.slice(0, 57)}…` : line;
}

/** What is no mistake, and yet not what everyone expects. */
function notes({ blocks }: CheckedProgram): string[] {
  const silent = blocks.filter((block) => block.kind === 'train' && block.attributes.sample === undefined);
  return [...new Set(silent.map(({ name, variant }) => variant?.of ?? name))].map(
    (name) => `"${name}" makes no pictures while it trains: it has no sample = { prompts = … }.`,
  );
}

function asJson({ code, severity, message, span, related, hint, fix }: Diagnostic) {
  return {
    code,
    severity,
    message,
    ...placeOf(span),
    hint,
    fix: fix && { text: fix.text, ...placeOf(fix.span) },
    related: related.map((one) => ({ message: one.message, ...placeOf(one.span) })),
  };
}

/** Lines and columns from 1; the end is the first position behind the span. */
function placeOf(span: Span) {
  const { line, column } = positionOf(span);
  const end = positionOf({ ...span, start: span.end });
  return { file: span.source.path, line, column, endLine: end.line, endColumn: end.column };
}
