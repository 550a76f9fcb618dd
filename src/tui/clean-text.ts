// Text that others wrote (captions, log lines, file names, messages about them) may carry escape sequences that move the
// cursor, recolour the terminal or hide what follows. Whatever reaches a screen comes through here first.

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this file is about.
const sequences = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-~])/g;
// C0 and C1 controls, then the marks that turn the direction of writing.
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above.
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** The same text without control characters. Line breaks and tabs become single spaces. */
export function cleanLine(text: string): string {
  return text
    .replace(sequences, '')
    .replace(/[\t\r\n]+/g, ' ')
    .replace(controls, '');
}

/** The same text line by line, each clean. A carriage return overwrites its line, as on a terminal. */
export function cleanLines(text: string): string[] {
  return text
    .split(/\r?\n/)
    .map((line) => cleanLine(line.slice(line.lastIndexOf('\r', line.length - 2) + 1)).trimEnd());
}

// C1 controls and direction marks pass through JSON.stringify as they are.
const unescaped = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** One line of JSON, with every control character escaped: nothing is lost, and a terminal that shows it is safe. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(unescaped, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
