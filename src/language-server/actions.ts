// What an editor can do about a problem: the fixes that diagnostics carry, one by one, and all of them at once.

import { type CodeAction, CodeActionKind, type CodeActionParams, type TextEdit } from 'vscode-languageserver/node';
import { cleanLine } from '../parser/clean-text.ts';
import type { Diagnostic, Fix } from '../parser/diagnostics/diagnostics.ts';
import { apartFrom } from '../parser/editing/fix-program.ts';
import { shownDiagnostic } from './diagnostics.ts';
import type { OpenFile } from './open-file.ts';
import { offsetAt, rangeOf } from './positions.ts';

export const FIX_ALL = `${CodeActionKind.SourceFixAll}.lorac`;

export function actionsFor(file: OpenFile, diagnostics: readonly Diagnostic[], params: CodeActionParams): CodeAction[] {
  const { range, context } = params;
  const [start, end] = [offsetAt(file.source, range.start), offsetAt(file.source, range.end)];
  const fixable = diagnostics.filter((one): one is Diagnostic & { fix: Fix } => one.fix?.span.source === file.source);
  const wanted = (kind: string) => context.only?.some((one) => kind === one || kind.startsWith(`${one}.`)) ?? true;
  const quick = fixable
    .filter(({ span, fix }) => touches(span, start, end) || touches(fix.span, start, end))
    .map((diagnostic) => quickFix(file, diagnostic));
  const all = apartFrom(fixable).map(({ fix }) => editOf(fix));
  return [
    ...(wanted(CodeActionKind.QuickFix) ? quick : []),
    ...(wanted(FIX_ALL) && all.length > 0
      ? [{ ...edited(file, all), title: titleOfAll(all.length), kind: FIX_ALL }]
      : []),
  ];
}

const touches = (span: { readonly start: number; readonly end: number }, start: number, end: number) =>
  span.start <= end && start <= span.end;

function quickFix(file: OpenFile, diagnostic: Diagnostic & { readonly fix: Fix }): CodeAction {
  const { text, span } = diagnostic.fix;
  const written = cleanLine(text.trim());
  const short = written.length > 60 ? `${written.slice(0, 57)}…` : written;
  return {
    ...edited(file, [editOf(diagnostic.fix)]),
    title: written !== '' ? `Write ${short}` : span.end > span.start ? 'Take it out' : 'Put it right',
    kind: CodeActionKind.QuickFix,
    diagnostics: [shownDiagnostic(diagnostic)],
    isPreferred: true,
  };
}

const titleOfAll = (count: number) => (count === 1 ? 'Fix what lorac can fix' : `Fix all ${count} that lorac can fix`);

const editOf = ({ span, text }: Fix): TextEdit => ({ range: rangeOf(span), newText: text });

/** For this version alone: in another one the places may be others. */
function edited({ uri, version }: OpenFile, edits: TextEdit[]): Pick<CodeAction, 'edit'> {
  return { edit: { documentChanges: [{ textDocument: { uri, version }, edits }] } };
}
