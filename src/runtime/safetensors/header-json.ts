// JSON as a safetensors header needs it, which `JSON.parse` is too kind for:
// a key given twice is an error, a number is a plain unsigned integer, and objects become Maps,
// since `__proto__` is a legal tensor name.

/** An integer beyond 2^53 - 1, or one written with a sign, a point or an exponent, does not parse. */
export type HeaderJson = string | number | boolean | null | readonly HeaderJson[] | ReadonlyMap<string, HeaderJson>;

/** Thrown with a reason that names the place; the caller knows the file. */
export class HeaderJsonError extends Error {}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const MAX_DEPTH = 8;

/** Parses one value from the start of `text`. `end` is where the text after it begins. */
export function parseHeaderJson(text: string): { readonly value: HeaderJson; readonly end: number } {
  const parser = new Parser(text);
  const value = parser.value(0);
  return { value, end: parser.at };
}

class Parser {
  readonly text: string;
  at = 0;

  constructor(text: string) {
    this.text = text;
  }

  value(depth: number): HeaderJson {
    if (depth > MAX_DEPTH) this.fail('values are nested too deeply');
    switch (this.text[this.at]) {
      case '{':
        return this.object(depth);
      case '[':
        return this.array(depth);
      case '"':
        return this.string();
      case 't':
        return this.word('true', true);
      case 'f':
        return this.word('false', false);
      case 'n':
        return this.word('null', null);
      default:
        return this.integer();
    }
  }

  private object(depth: number): ReadonlyMap<string, HeaderJson> {
    const members = new Map<string, HeaderJson>();
    this.at += 1;
    this.space();
    if (this.take('}')) return members;
    do {
      this.space();
      if (this.text.charCodeAt(this.at) !== QUOTE) this.fail('a key in double quotes is missing');
      const key = this.string();
      if (members.has(key)) this.fail(`the key ${JSON.stringify(key)} is given twice`);
      this.space();
      if (!this.take(':')) this.fail('a ":" is missing');
      this.space();
      members.set(key, this.value(depth + 1));
      this.space();
    } while (this.take(','));
    if (!this.take('}')) this.fail('a "}" is missing');
    return members;
  }

  private array(depth: number): readonly HeaderJson[] {
    const items: HeaderJson[] = [];
    this.at += 1;
    this.space();
    if (this.take(']')) return items;
    do {
      this.space();
      items.push(this.value(depth + 1));
      this.space();
    } while (this.take(','));
    if (!this.take(']')) this.fail('a "]" is missing');
    return items;
  }

  private string(): string {
    const start = this.at;
    let escaped = false;
    for (let at = start + 1; at < this.text.length; at += 1) {
      const code = this.text.charCodeAt(at);
      if (code === QUOTE) {
        this.at = at + 1;
        return escaped ? this.unescape(start) : this.text.slice(start + 1, at);
      }
      if (code === BACKSLASH) {
        escaped = true;
        at += 1;
      } else if (code < 0x20) {
        this.at = at;
        this.fail('a control character stands in a string');
      }
    }
    this.at = this.text.length;
    return this.fail('a string does not end');
  }

  /** Escapes are rare, so the platform's own rules decide about them; a lone surrogate names no character. */
  private unescape(start: number): string {
    let text: string;
    try {
      text = JSON.parse(this.text.slice(start, this.at)) as string;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return this.fail('a string holds an escape that JSON does not have');
    }
    if (!text.isWellFormed()) this.fail('a string holds half of a surrogate pair');
    return text;
  }

  private integer(): number {
    const digits = /(?:0|[1-9][0-9]*)(?![0-9.eE])/y;
    digits.lastIndex = this.at;
    const found = digits.exec(this.text)?.[0];
    if (found === undefined) return this.fail('an unsigned integer or another JSON value was expected');
    const value = Number(found);
    if (!Number.isSafeInteger(value)) this.fail(`the number ${shortened(found)} is beyond 2^53 - 1`);
    this.at += found.length;
    return value;
  }

  private word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.at)) this.fail('an unknown word stands where a value should');
    this.at += word.length;
    return value;
  }

  private space(): void {
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.at += 1;
    }
  }

  private take(sign: string): boolean {
    if (this.text[this.at] !== sign) return false;
    this.at += 1;
    return true;
  }

  private fail(problem: string): never {
    throw new HeaderJsonError(`${problem} (header character ${this.at})`);
  }
}

function shortened(text: string): string {
  return text.length <= 24 ? text : `${text.slice(0, 21)}…`;
}
