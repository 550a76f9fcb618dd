// What is wrong with a program, as a value. Phases return diagnostics; only a reporter prints them.

import type { Span } from '../source.ts';

export interface Diagnostic {
  readonly code: string;
  readonly severity: 'error' | 'warning';
  readonly message: string;
  readonly span: Span;
  /** Other places that explain this one: "first defined here". */
  readonly related: readonly Related[];
  /** What to write instead, where we know it. */
  readonly hint: string | undefined;
  /** The hint as an edit that can be made without asking. */
  readonly fix: Fix | undefined;
}

export interface Related {
  readonly message: string;
  readonly span: Span;
}

export interface Fix {
  readonly span: Span;
  readonly text: string;
}

type Details = Pick<Diagnostic, 'message'> & Partial<Diagnostic>;

/** Only the factories of `diagnostics.ts` call these. */
export function error(code: string, span: Span, details: Details): Diagnostic {
  return { code, severity: 'error', span, related: [], hint: undefined, fix: undefined, ...details };
}

export function warning(code: string, span: Span, details: Details): Diagnostic {
  return { ...error(code, span, details), severity: 'warning' };
}

export function replace(span: Span, text: string): Fix {
  return { span, text };
}
