// A command that is about to be printed: flags in order, and what they cannot say.

import type { Arguments } from '../parser/values.ts';

export interface CommandDraft {
  readonly flags: Flag[];
  /** What the trainer cannot do, or does otherwise, for comments. */
  readonly notes: string[];
}

/** `--name`, `--name=value`, or `--name value value`. */
export interface Flag {
  readonly name: string;
  readonly values: readonly string[];
}

export function addFlag(draft: CommandDraft, name: string, value?: string | number): void {
  draft.flags.push({ name, values: value === undefined ? [] : [String(value)] });
}

export function addSwitch(draft: CommandDraft, name: string, isOn: boolean): void {
  if (isOn) addFlag(draft, name);
}

export function addList(draft: CommandDraft, name: string, values: readonly string[]): void {
  if (values.length > 0) draft.flags.push({ name, values });
}

/** A word that every POSIX shell reads as itself: no path and no caption can become syntax. */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

export function printCommand(start: string, flags: readonly Flag[]): string {
  const words = flags.map(({ name, values: [first, ...rest] }) => {
    if (first === undefined) return `--${name}`;
    if (rest.length === 0 && !listed.has(name)) return `--${name}=${shellWord(first)}`;
    return `--${name} ${[first, ...rest].map(shellWord).join(' ')}`;
  });
  return [start, ...words.map((word) => `  ${word}`)].join(' \\\n');
}

const listed: ReadonlySet<string> = new Set(['network_args', 'optimizer_args', 'lr_scheduler_args']);

/** As sd-scripts reads the values of `key=value` arguments. */
export function pythonLiteral(value: Arguments[string]): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return `'${value.replaceAll(/[\\']/g, String.raw`\$&`)}'`;
  if (Array.isArray(value))
    return `(${value.map((item) => pythonLiteral(item)).join(', ')}${value.length === 1 ? ',' : ''})`;
  const entries = Object.entries(value as Arguments);
  return `{${entries.map(([name, one]) => `${pythonLiteral(name)}: ${pythonLiteral(one)}`).join(', ')}}`;
}
