// The words of commands that somebody copied from a guide, a script or a terminal: POSIX shells, cmd and PowerShell, told
// apart by how they continue a line. Nothing is run, and no variable is read but those that the text sets itself.

import { variableMark, variablesIn } from './recipe.ts';

export interface ShellText {
  /** Each command, word by word. */
  readonly commands: readonly (readonly string[])[];
  /** Files that the text itself writes: `cat > NAME <<END`. */
  readonly files: ReadonlyMap<string, string>;
  /** A quote that is never closed: on which line it opens, counted from 1. */
  readonly openQuote: number | undefined;
}

/** In cmd and PowerShell a backslash is part of a path; elsewhere it makes the next character plain. */
type Style = 'posix' | 'windows';

/** A continuation sign at the end of a line, with the break. Trailing blanks, which would break a real shell, are forgiven. */
const continuation = /[\\^`][ \t]*\r?\n/y;

export function readShell(text: string): ShellText {
  const { rest, files } = takeFiles(text);
  const style: Style =
    /(?:^|\s)[\^`][ \t]*\r?\n/.test(rest) || /(?:^|[\s="'])[A-Za-z]:\\/.test(rest) ? 'windows' : 'posix';
  return { ...new ShellReader(rest, style).read(), files };
}

class ShellReader {
  readonly #text: string;
  readonly #style: Style;
  readonly #commands: string[][] = [];
  readonly #variables = new Map<string, string>();
  #words: string[] = [];
  /** `undefined` between words. An empty text in quotes is a word too. */
  #word: string | undefined;
  #at = 0;
  #openQuote: number | undefined;

  constructor(text: string, style: Style) {
    this.#text = text;
    this.#style = style;
  }

  read(): Omit<ShellText, 'files'> {
    while (this.#at < this.#text.length) this.#step();
    this.#endCommand();
    return { commands: this.#commands, openQuote: this.#openQuote };
  }

  #step(): void {
    const letter = this.#text[this.#at] as string;
    continuation.lastIndex = this.#at;
    const continued = continuation.exec(this.#text);
    if (continued !== null) {
      this.#endWord();
      this.#at += continued[0].length;
    } else if (letter === '\n' || letter === ';' || letter === '|' || letter === '&') {
      this.#at += 1;
      this.#endCommand();
    } else if (/\s/.test(letter)) {
      this.#at += 1;
      this.#endWord();
    } else if (letter === '#' && this.#word === undefined) {
      this.#skipLine();
    } else if (letter === '"' || letter === "'") {
      this.#quoted(letter);
    } else if (letter === '$') {
      this.#variable();
    } else if (letter === '%' && this.#style === 'windows') {
      this.#percent();
    } else if (letter === '\\' && this.#style === 'posix') {
      this.#add(this.#text[this.#at + 1] ?? '');
      this.#at += 2;
    } else {
      this.#add(letter);
      this.#at += 1;
    }
  }

  /** A comment between the lines of a command does not end it: people switch flags off that way. */
  #skipLine(): void {
    const end = this.#text.indexOf('\n', this.#at);
    const line = this.#text.slice(this.#at, end < 0 ? undefined : end);
    const goesOn = this.#words.length > 0 && /[\\^`]\s*$/.test(line);
    this.#at = end < 0 ? this.#text.length : goesOn ? end + 1 : end;
  }

  #quoted(mark: string): void {
    const opened = this.#at;
    this.#at += 1;
    this.#add('');
    while (this.#at < this.#text.length) {
      const letter = this.#text[this.#at] as string;
      const next = this.#text[this.#at + 1];
      if (letter === mark) {
        this.#at += 1;
        return;
      }
      if (
        letter === '\\' &&
        mark === '"' &&
        this.#style === 'posix' &&
        next !== undefined &&
        '"\\$`\n'.includes(next)
      ) {
        this.#add(next === '\n' ? '' : next);
        this.#at += 2;
      } else if (letter === '$' && mark === '"') {
        this.#variable();
      } else if (letter === '%' && this.#style === 'windows') {
        this.#percent();
      } else {
        this.#add(letter);
        this.#at += 1;
      }
    }
    this.#openQuote ??= this.#text.slice(0, opened).split('\n').length;
  }

  #variable(): void {
    const after = this.#text.slice(this.#at, this.#at + 200);
    const [whole, name] = /^\$(?:env:)?\{?(?:env:)?([A-Za-z_]\w*)(?::?-[^}]*)?\}?/.exec(after) ?? [];
    if (whole === undefined || name === undefined) {
      this.#add('$');
      this.#at += 1;
      return;
    }
    const [, fallback] = /:?-([^}]*)\}$/.exec(whole) ?? [];
    this.#at += whole.length;
    this.#add(this.#variables.get(name) ?? fallback ?? variableMark(name));
  }

  /** `%NAME%`, as cmd has it. */
  #percent(): void {
    const [whole, name] = /^%(\w+)%/.exec(this.#text.slice(this.#at, this.#at + 80)) ?? [];
    this.#add(name === undefined ? '%' : (this.#variables.get(name) ?? variableMark(name)));
    this.#at += whole?.length ?? 1;
  }

  #add(text: string): void {
    this.#word = (this.#word ?? '') + text;
  }

  #endWord(): void {
    if (this.#word !== undefined) this.#words.push(this.#word);
    this.#word = undefined;
  }

  #endCommand(): void {
    this.#endWord();
    const { variables, wordCount } = assignments(this.#words);
    for (const [name, value] of variables) this.#variables.set(name, value);
    const command = this.#words.slice(wordCount);
    if (command.length > 0) this.#commands.push(command);
    this.#words = [];
  }
}

/** `NAME=value`, `export NAME=value`, `set NAME=value`, and PowerShell's `$NAME = value`, at the beginning of a command. */
function assignments(words: readonly string[]): {
  readonly variables: readonly (readonly [string, string])[];
  readonly wordCount: number;
} {
  const [power] = variablesIn(words[0] ?? '');
  if (power !== undefined && words[1] === '=') {
    return { variables: [[power, words.slice(2).join(' ')]], wordCount: words.length };
  }
  const isStatement = /^(export|set)$/i.test(words[0] ?? '');
  const variables: [string, string][] = [];
  for (const word of isStatement ? words.slice(1) : words) {
    const [, name, value] = /^([A-Za-z_]\w*)=(.*)$/s.exec(word) ?? [];
    if (name === undefined || value === undefined) break;
    variables.push([name, value]);
  }
  return { variables, wordCount: isStatement ? words.length : variables.length };
}

/** Files that are written right there, taken out of the text. */
function takeFiles(text: string): { readonly rest: string; readonly files: ReadonlyMap<string, string> } {
  const files = new Map<string, string>();
  const heredoc =
    /^[ \t]*cat[ \t]*>[ \t]*(?:'([^'\n]+)'|"([^"\n]+)"|([^\s<]+))[ \t]*<<-?[ \t]*(['"]?)(\w+)\4[ \t]*\r?\n/gm;
  let rest = '';
  let from = 0;
  for (const match of text.matchAll(heredoc)) {
    if (match.index < from) continue;
    const [opening, single, double, bare, , end] = match;
    const start = match.index + opening.length;
    const close = closing(text, start, end as string);
    if (close === undefined) continue;
    files.set((single ?? double ?? bare) as string, text.slice(start, close.at));
    rest += text.slice(from, match.index);
    from = close.behind;
  }
  return { rest: rest + text.slice(from), files };
}

function closing(
  text: string,
  start: number,
  word: string,
): { readonly at: number; readonly behind: number } | undefined {
  let at = start;
  while (at <= text.length) {
    const end = text.indexOf('\n', at);
    const line = text.slice(at, end < 0 ? text.length : end);
    if (line.trim() === word) return { at, behind: end < 0 ? text.length : end + 1 };
    if (end < 0) return undefined;
    at = end + 1;
  }
  return undefined;
}
