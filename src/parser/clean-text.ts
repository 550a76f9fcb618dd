// Text that others wrote (captions, log lines, file names, messages about them) may carry escape sequences that move the
// cursor, recolour the terminal or hide what follows. Whatever reaches a screen comes through here first.

import { stripVTControlCharacters } from 'node:util';

/** The same text without control characters and marks that turn the direction of writing. Line breaks and tabs become spaces. */
export function cleanLine(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/[\t\r\n]+/g, ' ')
    .replace(/[\p{Cc}\p{Bidi_Control}]/gu, '');
}

/** The same text line by line, each clean. A carriage return overwrites its line, as on a terminal. */
export function cleanLines(text: string): string[] {
  return text
    .split(/\r?\n/)
    .map((line) => cleanLine(line.slice(line.lastIndexOf('\r', line.length - 2) + 1)).trimEnd());
}

/** One line of JSON, with every control character escaped: nothing is lost, and a terminal that shows it is safe. */
export function jsonLine(value: unknown): string {
  // C1 controls, direction marks and line separators pass through JSON.stringify as they are.
  return JSON.stringify(value).replace(
    /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu,
    (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
