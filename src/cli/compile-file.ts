// From a path on the command line to a checked program. What is wrong with it goes to stderr.

import { styleText } from 'node:util';
import { type Compiled, type CompileOptions, compile } from '../parser/check.ts';
import type { Diagnostic } from '../parser/diagnostics/diagnostics.ts';
import { printDiagnostics, type Style } from '../parser/diagnostics/print-diagnostic.ts';
import type { CheckedProgram } from '../parser/model.ts';
import type { SourceFile } from '../parser/source.ts';
import { count } from '../tui/units.ts';
import { wantsColor } from './color.ts';
import { filesOnDisk } from './imported-files.ts';
import { readProgram } from './program-file.ts';
import { UsageError } from './usage-error.ts';

export interface ProgramOptions {
  readonly file: string | undefined;
  /** As given: `name=value`. */
  readonly param: readonly string[];
}

export function compileFile({ file, param }: ProgramOptions): Compiled & { readonly source: SourceFile } {
  const options = compileOptions(param);
  const source = readProgram(file);
  return { source, ...compile(source, options) };
}

/** With the files and the environment of whoever runs lorac. Throws `UsageError`. */
export function compileOptions(param: readonly string[]): CompileOptions {
  return { params: parseParams(param), files: filesOnDisk(), environment: variable };
}

export const variable = (name: string): string | undefined =>
  Object.hasOwn(process.env, name) ? process.env[name] : undefined;

/** The program, or `undefined` after its mistakes have been printed. Warnings are printed either way. */
export function compileOrExplain(options: ProgramOptions): CheckedProgram | undefined {
  const { program, diagnostics } = compileFile(options);
  explain(diagnostics);
  return program;
}

export function explain(diagnostics: readonly Diagnostic[]): void {
  if (diagnostics.length === 0) return;
  const errors = diagnostics.filter(({ severity }) => severity === 'error').length;
  const tally = errors === 0 ? '' : `\n${count(errors, 'error')}\n`;
  // For people, and once: whoever reads a log cannot ask.
  const more =
    process.stderr.isTTY === true ? `lorac explain ${diagnostics[0]?.code} says more, with an example.\n` : '';
  const printed = printDiagnostics(diagnostics, wantsColor(process.stderr) ? colored : undefined);
  process.stderr.write(`${printed}\n${tally}${more}`);
}

const styles: { readonly [role in Parameters<Style>[0]]: Parameters<typeof styleText>[0] } = {
  place: 'bold',
  error: 'red',
  warning: 'yellow',
  code: 'dim',
  margin: 'dim',
  mark: 'red',
  note: 'dim',
  hint: 'cyan',
};

export const colored: Style = (role, text) => styleText(styles[role], text, { validateStream: false });

function parseParams(given: readonly string[]): ReadonlyMap<string, string> {
  const params = new Map<string, string>();
  for (const text of given) {
    const [, name, value] = /^([A-Za-z_]\w*(?:\.\w+)*)=(.*)$/s.exec(text) ?? [];
    if (name === undefined || value === undefined) {
      throw new UsageError(`-p needs NAME=VALUE, and "${text}" is not that.`, 'for example: -p name=other');
    }
    if (params.has(name)) throw new UsageError(`-p sets "${name}" twice.`);
    params.set(name, value);
  }
  return params;
}
