// Fixes made: those that diagnostics carry, one round after the other, since one can bring to light what was behind it.

import { type CompileOptions, compile } from '../check.ts';
import type { Fix } from '../diagnostics/diagnostic.ts';
import { positionOf, type SourceFile, sourceText } from '../source.ts';

export interface MadeFix {
  readonly code: string;
  /** In the text as it was when the fix was made. */
  readonly line: number;
  readonly before: string;
  readonly after: string;
}

export interface FixedProgram {
  readonly text: string;
  readonly made: readonly MadeFix[];
}

/** More than any real program needs; fixes that undo each other end here. */
const mostRounds = 50;

/** Changes the file itself, and none that it imports. */
export function fixProgram(source: SourceFile, options: CompileOptions): FixedProgram {
  const made: MadeFix[] = [];
  const seen = new Set<string>();
  let { text } = source;
  while (!seen.has(text) && seen.size < mostRounds) {
    seen.add(text);
    const now = { path: source.path, text };
    const fixes = apartFrom(
      compile(now, options).diagnostics.flatMap(({ code, fix }) =>
        // What was given on the command line is not in the file, and other files have users of their own.
        fix === undefined || fix.span.source !== now || changesNothing(fix) ? [] : [{ code, fix }],
      ),
    );
    for (const { code, fix } of fixes) {
      const { span, text: after } = fix;
      made.push({ code, line: positionOf(span).line, before: sourceText(span), after });
    }
    text = edited(
      text,
      fixes.map(({ fix }) => fix),
    );
  }
  return { text, made };
}

const changesNothing = ({ span, text }: Fix): boolean => sourceText(span) === text;

/** Those that can be made together, in the order of the text: without any that touches one before it. */
export function apartFrom<Part extends { readonly fix: Fix }>(fixes: readonly Part[]): Part[] {
  const apart: Part[] = [];
  let end = -1;
  for (const one of fixes.toSorted((a, b) => a.fix.span.start - b.fix.span.start)) {
    if (one.fix.span.start <= end) continue;
    apart.push(one);
    end = one.fix.span.end;
  }
  return apart;
}

function edited(text: string, fixes: readonly Fix[]): string {
  return fixes.reduceRight(
    (later, { span, text: by }) => later.slice(0, span.start) + by + later.slice(span.end),
    text,
  );
}
