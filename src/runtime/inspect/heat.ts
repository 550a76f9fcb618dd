// Numbers per block as a strip of heat: one mark for each block, from cold to hot. Without colour the marks have heights.

import { stripVTControlCharacters } from 'node:util';

const bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/** Places in the 256-colour table, from dark blue over red to yellow. */
const ramp = [17, 18, 54, 90, 126, 161, 196, 202, 208, 214, 220, 226];

/** From 0 to the highest number. */
export function heatMark(value: number, highest: number, color: boolean): string {
  const share = highest > 0 && Number.isFinite(value) ? Math.min(Math.max(value / highest, 0), 1) : 0;
  const mark = value === 0 ? '·' : (bars[Math.round(share * (bars.length - 1))] ?? ' ');
  return color ? `\u001b[38;5;${ramp[Math.round(share * (ramp.length - 1))]}m${mark}\u001b[39m` : mark;
}

/** `IN ▁▂▃▄ MID ▃▅▃ OUT ▇█▆▅ TE1 ▂`: every block that there is, under the name of its section. */
export function heatStrip(values: ReadonlyMap<string, number>, color: boolean): string {
  const highest = Math.max(0, ...[...values.values()].filter(Number.isFinite));
  const sections = new Map<string, string>();
  for (const [place, value] of values) {
    const section = /^(?:IN|MID|OUT)(?=\d)/.exec(place)?.[0] ?? place;
    sections.set(section, `${sections.get(section) ?? ''}${heatMark(value, highest, color)}`);
  }
  return [...sections].map(([section, marks]) => `${section} ${marks}`).join('  ');
}

/** Columns side by side, the first to the left and numbers to the right; widths are those on the screen. */
export function table(rows: readonly (readonly string[])[], left = 1): string[] {
  const width = (cell: string): number => stripVTControlCharacters(cell).length;
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => width(row[column] ?? ''))));
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const gap = ' '.repeat((widths[column] ?? 0) - width(cell));
        return column < left ? `${cell}${gap}` : `${gap}${cell}`;
      })
      .join('  ')
      .trimEnd(),
  );
}
