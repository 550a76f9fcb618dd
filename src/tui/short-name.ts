// Names of nodes that are too long for their column. What tells variants apart stays: their values, and the end of a path.

import { readNodeName, writeNodeName } from '../parser/node-name.ts';

/** At most `width` columns, where that can be done without losing what tells it apart from its neighbours. */
export function shortName(name: string, width: number): string {
  if (name.length <= width) return name;
  const [, file, suffix] = /([^\\/]+)(\.(?:safetensors|png))$/.exec(name) ?? [];
  if (file !== undefined && suffix !== undefined) return shortPath(file, suffix, width);
  const parts = readNodeName(name);
  if (parts.values.length === 0) return name;
  // `small[dim=8,thr=-3]` is `small[8,-3]`: the order is the same in all of them.
  return writeNodeName({ ...parts, values: parts.values.map((value) => value.slice(value.indexOf('=') + 1)) });
}

function shortPath(file: string, suffix: string, width: number): string {
  const whole = `${file}${suffix}`;
  if (whole.length <= width) return whole;
  const stem = file.length < width ? file : `…${file.slice(file.length + 2 - width)}`;
  return `${stem}${suffix.slice(0, Math.max(0, width - 1 - stem.length))}…`;
}
