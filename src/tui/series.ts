// A run of numbers that may be very long, kept at a length that a screen can show.

const LIMIT = 256;

/** Each value stands for the mean of `stride` numbers in a row; the last may still be filling. */
export interface Series {
  readonly values: readonly number[];
  readonly stride: number;
  readonly pending: readonly number[];
}

export const emptySeries: Series = { values: [], stride: 1, pending: [] };

/** Numbers that are not finite are left out. */
export function addTo(series: Series, value: number): Series {
  if (!Number.isFinite(value)) return series;
  const pending = [...series.pending, value];
  if (pending.length < series.stride) return { ...series, pending };
  const values = [...series.values, mean(pending)];
  if (values.length < LIMIT) return { ...series, values, pending: [] };
  return { values: shrink(values, LIMIT / 2), stride: series.stride * 2, pending: [] };
}

const bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/** The whole series in at most `width` characters, lowest to highest. */
export function sparkline(series: Series, width: number): string {
  const points = shrink(series.values, width);
  if (points.length === 0) return '';
  const low = Math.min(...points);
  const range = Math.max(...points) - low;
  return points
    .map((point) => bars[range === 0 ? 3 : Math.round(((point - low) / range) * (bars.length - 1))])
    .join('');
}

function shrink(values: readonly number[], width: number): number[] {
  if (values.length <= width) return [...values];
  return Array.from({ length: width }, (_, index) =>
    mean(values.slice(Math.floor((index * values.length) / width), Math.floor(((index + 1) * values.length) / width))),
  );
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
