// Random programs: some statements of real ones, with a few edits of the kinds that hands, merges and pasting make.

import { globSync, readFileSync } from 'node:fs';

const root = new URL('../../../', import.meta.url);

/** The programs of the corpus and of the examples. */
export function knownPrograms(): string[] {
  return globSync(['examples/**/*.lora', 'grammar/corpus/**/*.lora'], { cwd: root })
    .toSorted()
    .map((path) => readFileSync(new URL(path, root), 'utf8'));
}

/** Numbers from 0 up to 1, the same for the same seed: mulberry32, by Tommy Ettinger. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** What has a meaning somewhere, or looks as if it had. */
const snippets = [
  ...[
    '{',
    '}',
    '[',
    ']',
    '(',
    ')',
    '"',
    "'",
    '`',
    '=',
    ':',
    ',',
    ';',
    '@',
    '**',
    '*',
    '/',
    '-',
    '+',
    '\u2212',
    '%',
    '|',
  ],
  ...['\n', '\n\n\n', '\r\n', '\r', '\t', '  ', '\u00a0', '\u200b', '\ufeff', '\u0000', '\u202e', '\ud800', '😀', '漢'],
  ...['#', '//', '# note\n', ' // note\n', '/*', '*/', '${', '}', '\\', '\\"', '“', '”', '«', '×'],
  ...['train', 'save', 'resize a {', 'checkpoint x { }', 'let', 'let y = ', 'param', 'import', 'import "x"', 'extends'],
  ...['sweep', 'step', 'true', 'raw@40', 'raw@ema(0.9)', 'env("X")', 'base =', 'thr = -3', 'network = locon {'],
  ...[
    '1',
    '-1',
    '.5',
    '1e',
    '1e-4',
    '0x',
    '64x64',
    '64 x 64',
    '5min',
    '8GB',
    '100%',
    '1024px',
    'C:\\x',
    './a/b.png',
    'a/b',
  ],
];

/** Between one and four statements, so that an edit has something to break and checking it costs little. */
function excerpt(programs: readonly string[], random: () => number): string {
  const program = pick(programs, random);
  const statements = program.split(/\n(?=\S)/);
  const from = Math.floor(random() * statements.length);
  return `${statements.slice(from, from + 1 + Math.floor(random() * 4)).join('\n')}\n`;
}

/** A program with up to four edits. */
export function randomProgram(programs: readonly string[], random: () => number): string {
  let text = excerpt(programs, random);
  for (let edits = Math.floor(random() * 5); edits > 0; edits -= 1) text = edited(text, programs, random);
  return text;
}

type Edit = (text: string, programs: readonly string[], random: () => number) => string;

function edited(text: string, programs: readonly string[], random: () => number): string {
  return pick(edits, random)(text, programs, random);
}

const edits: readonly Edit[] = [
  // Characters.
  (text, _, random) => spliced(text, place(text, random), Math.floor(random() * 4), ''),
  (text, _, random) => spliced(text, place(text, random), 0, pick(snippets, random)),
  (text, _, random) => spliced(text, place(text, random), 1, String.fromCharCode(Math.floor(random() * 256))),
  (text, _, random) => spliced(text, place(text, random), 1, String.fromCharCode(Math.floor(random() * 65_536))),
  // Words: one less, one twice, two swapped, one of another program.
  (text, _, random) => changedWord(text, random, () => ''),
  (text, _, random) => changedWord(text, random, (word) => `${word} ${word}`),
  (text, _, random) => {
    const words = wordsOf(text);
    const at = Math.floor(random() * (words.length - 1));
    return words
      .with(at, words[at + 1] ?? '')
      .with(Math.min(at + 1, words.length - 1), words[at] ?? '')
      .join('');
  },
  (text, programs, random) => changedWord(text, random, () => pick(wordsOf(pick(programs, random)), random)),
  (text, _, random) => changedWord(text, random, () => pick(snippets, random)),
  // Lines: one less, one twice, all of it on one, a piece of another program.
  (text, _, random) => changedLine(text, random, () => []),
  (text, _, random) => changedLine(text, random, (line) => [line, line]),
  (text, _, random) => spliced(text, text.indexOf('\n', place(text, random)), 1, ' '),
  (text, programs, random) => spliced(text, place(text, random), 0, excerpt(programs, random)),
  (text, _, random) => text.slice(0, place(text, random)),
];

const place = (text: string, random: () => number) => Math.floor(random() * (text.length + 1));

const pick = <Value>(values: readonly Value[], random: () => number): Value =>
  values[Math.floor(random() * values.length)] as Value;

function spliced(text: string, at: number, remove: number, insert: string): string {
  return at < 0 ? text : text.slice(0, at) + insert + text.slice(at + remove);
}

/** Words, blanks and signs, which together are the text. */
const wordsOf = (text: string): string[] => text.match(/[\w.]+|"[^"\n]*"|\s+|[^\w\s]/g) ?? [''];

function changedWord(text: string, random: () => number, change: (word: string) => string): string {
  const words = wordsOf(text);
  const at = Math.floor(random() * words.length);
  return words.with(at, change(words[at] ?? '')).join('');
}

function changedLine(text: string, random: () => number, change: (line: string) => readonly string[]): string {
  const lines = text.split('\n');
  const at = Math.floor(random() * lines.length);
  return lines.toSpliced(at, 1, ...change(lines[at] ?? '')).join('\n');
}
