// Values as other trainers' files have them: text from a command line, or what JSON, TOML and YAML can hold.
// Nothing about them is sure, so each reading gives `undefined` where a value is not what is asked for.

export type Plain = string | number | boolean | null | readonly Plain[] | PlainRecord;
export interface PlainRecord {
  readonly [name: string]: Plain | undefined;
}

export function isRecord(value: Plain | undefined): value is PlainRecord {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A section of a file; empty where there is none. */
export function sectionOf(value: Plain | undefined): PlainRecord {
  return isRecord(value) ? value : {};
}

export function isList(value: Plain | undefined): value is readonly Plain[] {
  return Array.isArray(value);
}

/** Also of text that holds a number and nothing else, as on a command line. */
export function asNumber(value: Plain | undefined): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (isList(value) && value.length === 1) return asNumber(value[0]);
  if (typeof value !== 'string' || !/^\s*[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(value)) return undefined;
  const number = Number(value.replaceAll('_', ''));
  return Number.isFinite(number) ? number : undefined;
}

export function asBoolean(value: Plain | undefined): boolean | undefined {
  if (typeof value === 'boolean') return value;
  if (value === 1 || value === 0) return value === 1;
  if (isList(value) && value.length === 1) return asBoolean(value[0]);
  if (typeof value !== 'string') return undefined;
  if (/^(true|yes|on|1)$/i.test(value.trim())) return true;
  return /^(false|no|off|0|none)$/i.test(value.trim()) ? false : undefined;
}

/** A number is text as well: names of folders and files may be. */
export function asText(value: Plain | undefined): string | undefined {
  if (typeof value === 'string') return value;
  if (isList(value) && value.length === 1) return asText(value[0]);
  return typeof value === 'number' ? String(value) : undefined;
}

/** A list, or text with commas or blanks between its items. */
export function asNumbers(value: Plain | undefined): readonly number[] | undefined {
  const items = isList(value) ? value : typeof value === 'string' ? value.split(/[\s,]+/).filter(Boolean) : [value];
  const numbers = items.map((item) => asNumber(item));
  return numbers.length > 0 && numbers.every((number) => number !== undefined) ? numbers : undefined;
}

/** The same, whether it came from a command line or a file: `1e-4` and `0.0001`, `True` and `true`. */
export function isEmpty(value: Plain | undefined): boolean {
  return value === undefined || value === null || value === '' || (isList(value) && value.length === 0);
}

/** For a comment: on one line, not too long. */
export function showPlain(value: Plain | undefined): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return text.length > 100 ? `${text.slice(0, 97)}…` : text;
}
