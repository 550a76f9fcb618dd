// The command line of a run block: where its `{name}` stand, and whether a path can be put there.
//
// A path is quoted as a word of its own, `$'…'`. Inside of quotes, here-documents, backticks and arithmetic a shell reads
// such a word otherwise, and a file's name could become a command. So placeholders stand where words stand, or nowhere:
// what the scanner is not sure of counts as no such place. Text in braces there is left to the shell.

export interface Placeholder {
  readonly name: string;
  /** Where the brace opens, and what follows the one that closes. */
  readonly start: number;
  readonly end: number;
  /** Whether a quoted path is one word there. */
  readonly isWord: boolean;
}

/** Everything that looks like a placeholder, in order. */
export function placeholdersIn(command: string): readonly Placeholder[] {
  return new CommandScanner(command).placeholders();
}

export interface SplitCommand {
  /** One more than names: the text around them. */
  readonly pieces: readonly string[];
  readonly names: readonly string[];
}

/** A command that has been checked, cut at its placeholders. */
export function splitCommand(command: string): SplitCommand {
  const found = placeholdersIn(command).filter(({ isWord }) => isWord);
  const starts = [...found.map(({ start }) => start), command.length];
  const ends = [0, ...found.map(({ end }) => end)];
  return {
    pieces: starts.map((start, index) => command.slice(ends[index], start)),
    names: found.map(({ name }) => name),
  };
}

const PLACEHOLDER = /\{([A-Za-z_]\w*)\}/y;
const VARIABLE = /\$\{[A-Za-z_]\w*\}/y;

/** What the shell is inside of. `words` is also the inside of parentheses. */
type Inside = 'words' | 'double' | 'single' | 'escaped';

class CommandScanner {
  readonly #command: string;
  #at = 0;
  /** Outermost first. */
  readonly #inside: Inside[] = ['words'];
  /** Something came that this scanner does not follow. */
  #isLost = false;
  readonly #found: Placeholder[] = [];

  constructor(command: string) {
    this.#command = command;
  }

  placeholders(): readonly Placeholder[] {
    while (this.#at < this.#command.length) {
      const placeholder = this.#take(PLACEHOLDER);
      if (placeholder === undefined) this.#step();
      else {
        const [whole, name = ''] = placeholder;
        const end = this.#at;
        const isWord = !this.#isLost && this.#top === 'words';
        this.#found.push({ name, start: end - whole.length, end, isWord });
      }
    }
    return this.#found;
  }

  get #top(): Inside {
    return this.#inside.at(-1) ?? 'words';
  }

  /** Over one character, or a few that belong together. */
  #step(): void {
    if (this.#top === 'single') this.#stepIn("'", false);
    else if (this.#top === 'escaped') this.#stepIn("'", true);
    else if (this.#take(VARIABLE) === undefined) {
      if (this.#top === 'double') this.#stepInDouble();
      else this.#stepInWords();
    }
  }

  #stepIn(end: string, hasEscapes: boolean): void {
    const character = this.#next();
    if (hasEscapes && character === '\\') this.#next();
    else if (character === end) this.#inside.pop();
  }

  #stepInDouble(): void {
    const character = this.#next();
    if (character === '\\') this.#next();
    else if (character === '"') this.#inside.pop();
    else if (character === '`') this.#isLost = true;
    else if (character === '$') this.#afterDollar();
  }

  #stepInWords(): void {
    const before = this.#command[this.#at - 1];
    const character = this.#next();
    switch (character) {
      case '\\':
        this.#next();
        break;
      case "'":
        this.#inside.push('single');
        break;
      case '"':
        this.#inside.push('double');
        break;
      case '`':
        this.#isLost = true;
        break;
      case '$':
        this.#afterDollar();
        break;
      case '(':
        if (this.#peek === '(') this.#isLost = true;
        this.#inside.push('words');
        break;
      case ')':
        if (this.#inside.length > 1) this.#inside.pop();
        break;
      case '<':
        // A here-document. `<<<` is one too for this scanner.
        if (this.#peek === '<') this.#isLost = true;
        break;
      case '#':
        if (before === undefined || /[\s;&|()]/.test(before)) this.#skipLine();
        break;
    }
  }

  /** `$(…)` holds words again; anything longer than `${name}`, and arithmetic, is not followed. */
  #afterDollar(): void {
    const isDouble = this.#top === 'double';
    if (this.#peek === '{' || this.#peek === '[') this.#isLost = true;
    else if (this.#peek === '(') {
      this.#next();
      // In a `case`, a parenthesis closes that none has opened.
      if (this.#peek === '(' || (isDouble && /\bcase\b/.test(this.#command))) this.#isLost = true;
      this.#inside.push('words');
    } else if (!isDouble && this.#peek === "'") {
      this.#next();
      this.#inside.push('escaped');
    }
  }

  get #peek(): string | undefined {
    return this.#command[this.#at];
  }

  #next(): string | undefined {
    const character = this.#peek;
    this.#at += 1;
    return character;
  }

  #skipLine(): void {
    const end = this.#command.indexOf('\n', this.#at);
    this.#at = end < 0 ? this.#command.length : end;
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#command);
    if (found === null) return undefined;
    this.#at = pattern.lastIndex;
    return found;
  }
}
