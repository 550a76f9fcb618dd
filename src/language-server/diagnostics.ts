// Diagnostics as editors take them. What a file says never reaches a message with its control characters.

import { basename } from 'node:path';
import { DiagnosticSeverity, type Diagnostic as Shown } from 'vscode-languageserver/node';
import { cleanLine } from '../parser/clean-text.ts';
import type { Diagnostic } from '../parser/diagnostics/diagnostics.ts';
import { count } from '../tui/units.ts';
import type { OpenFile } from './open-file.ts';
import { locationOf, rangeOf } from './positions.ts';

export function shownDiagnostic(diagnostic: Diagnostic): Shown {
  const { code, severity, message, span, related, hint } = diagnostic;
  return {
    range: rangeOf(span),
    severity: severity === 'error' ? DiagnosticSeverity.Error : DiagnosticSeverity.Warning,
    code,
    source: 'lorac',
    message: [message, ...(hint === undefined ? [] : [`hint: ${hint}`])].map(cleanLine).join('\n'),
    relatedInformation: related.map((one) => ({ message: cleanLine(one.message), location: locationOf(one.span) })),
  };
}

/** In the place of all else. */
export function tooLarge({ source }: OpenFile): Diagnostic {
  return {
    code: 'too-large',
    severity: 'error',
    message: 'This text is too large for a program.',
    span: { source, start: 0, end: 0 },
    related: [],
    hint: 'Programs are texts of a few lines that end in .lora.',
    fix: undefined,
  };
}

/**
 * What is wrong in files that a program imports, told where it imports them: one for each import of the program's own
 * through which there are errors. They are shown in their own place where that file is open.
 */
export function mistakesOfImports({ linked }: OpenFile, diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  return linked.root.imports.flatMap(({ statement, module }): Diagnostic[] => {
    if (module === undefined) return [];
    const errors = diagnostics.filter(({ span, severity }) => span.source === module.source && severity === 'error');
    if (errors.length === 0) return [];
    return [
      {
        code: 'import-failed',
        severity: 'error',
        message: `"${basename(module.source.path)}" has ${count(errors.length, 'mistake')}.`,
        span: statement.path?.span ?? statement.span,
        related: errors.slice(0, 5).map(({ message, span }) => ({ message, span })),
        hint: undefined,
        fix: undefined,
      },
    ];
  });
}
