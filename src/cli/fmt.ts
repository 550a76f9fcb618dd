// lorac fmt: programs in the one style. What is written goes to stdout, what could not be read is told on stderr.

import { text as readAll } from 'node:stream/consumers';
import { styleText } from 'node:util';
import { cleanLine } from '../parser/clean-text.ts';
import { type Formatted, format } from '../parser/format/format.ts';
import { count } from '../tui/units.ts';
import { wantsColor } from './color.ts';
import { lineDiff } from './line-diff.ts';
import { readPrograms } from './program-file.ts';
import { rewriteFile } from './rewrite-file.ts';
import { UsageError } from './usage-error.ts';

export interface FormatOptions {
  /** `-` is stdin. */
  readonly files: readonly string[];
  readonly check?: boolean;
  readonly stdout?: boolean;
}

/** 1 where `check` found something to do. */
export async function fmt({ files, check = false, stdout = false }: FormatOptions): Promise<number> {
  if (files.includes('-')) {
    if (files.length > 1) throw new UsageError('"-" is a program from stdin, and stands alone.');
    const text = await readAll(process.stdin);
    return check ? checked([{ path: 'stdin', text }]) : printed('stdin', format(text));
  }
  const sources = readPrograms(files);
  if (check) return checked(sources);
  const [only, ...others] = sources;
  if (stdout && only !== undefined) {
    if (others.length > 0)
      throw new UsageError('--stdout prints one program.', 'name one: lorac fmt --stdout hero.lora');
    return printed(only.path, format(only.text));
  }
  for (const { path, text } of sources) {
    const formatted = format(text);
    tellUnread(path, formatted);
    if (formatted.text === text) process.stdout.write(cleanLine(`${path} is as it should be.`).concat('\n'));
    else {
      await rewriteFile(path, formatted.text);
      process.stdout.write(cleanLine(`${path} is formatted.`).concat('\n'));
    }
  }
  return 0;
}

function printed(path: string, formatted: Formatted): number {
  tellUnread(path, formatted);
  process.stdout.write(formatted.text);
  return 0;
}

function checked(sources: readonly { readonly path: string; readonly text: string }[]): number {
  let isGood = true;
  for (const { path, text } of sources) {
    const formatted = format(text);
    tellUnread(path, formatted);
    if (formatted.text === text) continue;
    isGood = false;
    // Line ends that change, and nothing else, would be a page of lines that look alike.
    const lines = lineDiff(...([text, formatted.text].map((one) => one.replaceAll('\r', '')) as [string, string]));
    const shown = lines.length > 0 ? lines : ['  Only the ends of lines.'];
    process.stdout.write(`${[cleanLine(`${path} would change:`), ...shown.map(colored)].join('\n')}\n`);
  }
  return isGood ? 0 : 1;
}

function colored(line: string): string {
  const clean = cleanLine(line);
  const color = line.startsWith('-')
    ? 'red'
    : line.startsWith('+')
      ? 'green'
      : line.startsWith('@')
        ? 'dim'
        : undefined;
  return color !== undefined && wantsColor(process.stdout) ? styleText(color, clean, { validateStream: false }) : clean;
}

function tellUnread(path: string, { unreadLines }: Formatted): void {
  const [first, ...others] = unreadLines;
  if (first === undefined) return;
  const more = others.length === 0 ? '' : `, and ${count(others.length, 'place')} after it,`;
  process.stderr.write(
    `${cleanLine(`${path}:${first}: this cannot be read${more} and stays as it is; lorac check says what is wrong.`)}\n`,
  );
}
