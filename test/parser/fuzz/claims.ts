// What holds for every text, whatever is in it. Each claim that fails throws an error that says which, and where.

import { compile } from '../../../src/parser/check.ts';
import type { Diagnostic } from '../../../src/parser/diagnostics/diagnostics.ts';
import { printDiagnostics } from '../../../src/parser/diagnostics/print-diagnostic.ts';
import { fixProgram } from '../../../src/parser/editing/fix-program.ts';
import { format } from '../../../src/parser/format/format.ts';
import { buildAst } from '../../../src/parser/reading/build-ast.ts';
import { parseProgram } from '../../../src/parser/reading/cst.ts';
import { arrangeTokens } from '../../../src/parser/reading/token-stream.ts';
import { lex } from '../../../src/parser/reading/tokens.ts';

/** Of the processor, whose time passes only here: far above what the slowest program takes, far below what hangs. */
const limitMs = 5000;

export class BrokenClaim extends Error {}

/** Throws `BrokenClaim`, or whatever the language room throws. */
export function holdClaims(text: string): void {
  const start = process.cpuUsage();
  const { program, diagnostics } = compileText(text);
  const isWrong = diagnostics.some(({ severity }) => severity === 'error');
  claim((program === undefined) === isWrong, 'there is a program, or an error');
  for (const diagnostic of diagnostics) holdSpans(diagnostic);
  claim(printDiagnostics(diagnostics).split('\n').length >= diagnostics.length, 'every diagnostic prints');
  holdFormat(text, diagnostics);
  if (diagnostics.some(({ fix }) => fix !== undefined)) holdFixes(text);
  const { user, system } = process.cpuUsage(start);
  claim((user + system) / 1000 < limitMs, `an answer within ${limitMs} ms`);
}

function holdSpans({ code, span, related, fix }: Diagnostic): void {
  for (const { start, end, source } of [span, ...related.map((one) => one.span), ...(fix ? [fix.span] : [])]) {
    claim(start >= 0 && start <= end && end <= source.text.length, `${code} lies inside of the text`);
  }
}

function holdFixes(text: string): void {
  const options = { params: new Map() };
  const { text: fixed } = fixProgram({ path: 'fuzz.lora', text }, options);
  claim(fixProgram({ path: 'fuzz.lora', text: fixed }, options).made.length === 0, 'fixes come to an end');
}

function holdFormat(text: string, diagnostics: readonly Diagnostic[]): void {
  const once = format(text);
  const again = format(once.text);
  claim(again.text === once.text, 'formatting twice gives what once gives');
  same(wordsOf(text), wordsOf(once.text), 'formatting keeps every word and every comment');
  const [before, after] = [meaningOf(text), meaningOf(once.text)];
  same(before.ast, after.ast, 'formatting keeps what was read');
  // What can be read as a whole is judged alike; elsewhere, how much of a line is lost depends on where lines end.
  if (before.isRead) {
    // Messages quote what is written, with its blanks.
    const told = (all: readonly Diagnostic[]) =>
      all.map(({ code, message }) => `${code}: ${message.replaceAll(/\s+/g, '')}`);
    same(told(diagnostics), told(compileText(once.text).diagnostics), 'formatting keeps what is said about a program');
  }
}

const compileText = (text: string) => compile({ path: 'fuzz.lora', text }, { params: new Map() });

/** All but the commas that say nothing. */
function wordsOf(text: string): string[] {
  const { tokens, comments } = lex(text);
  const words = tokens
    .filter(({ image }) => image !== ',')
    .map(({ image }) => image.replaceAll(/\r\n?/g, '\n').trimEnd());
  return [...words, ...comments.map(({ image }) => image.trimEnd())];
}

function meaningOf(text: string): { readonly ast: string[]; readonly isRead: boolean } {
  const source = { path: 'fuzz.lora', text };
  const arranged = arrangeTokens(source, lex(text).tokens);
  const { tree, misfits } = parseProgram(arranged.tokens);
  const { program, diagnostics } = buildAst(source, tree);
  const isRead = arranged.diagnostics.length + misfits.length + diagnostics.length === 0;
  return { ast: program.statements.map((statement) => JSON.stringify(statement, withoutPlaces)), isRead };
}

/** Without where things stand, which is all that may change. */
function withoutPlaces(_key: string, value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'start' in value && 'end' in value ? undefined : value;
}

function claim(holds: boolean, what: string): void {
  if (!holds) throw new BrokenClaim(`It does not hold: ${what}.`);
}

function same(before: readonly string[], after: readonly string[], what: string): void {
  const at = Array.from({ length: Math.max(before.length, after.length) }).findIndex((_, i) => before[i] !== after[i]);
  if (at >= 0) throw new BrokenClaim(`It does not hold: ${what}.\n  before: ${before[at]}\n  after:  ${after[at]}`);
}
