// lorac presets: what presets there are; lorac presets NAME: the text of one.

import { nearest } from '../parser/diagnostics/suggest.ts';
import { presets } from './preset-files.ts';
import { UsageError } from './usage-error.ts';

export function listPresets(): number {
  const all = presets();
  const width = Math.max(...all.map(({ name }) => name.length));
  const lines = all.map(({ name, about }) => `${name.padEnd(width)}  ${about}`);
  const [first] = all;
  lines.push('', `A program uses one with: import "lorac:${first?.name}" as ${first?.name.replaceAll('-', '_')}`);
  process.stdout.write(`${lines.join('\n')}\n`);
  return 0;
}

export function showPreset(name: string): number {
  const all = presets();
  const found = all.find((preset) => preset.name === name.replace(/^lorac:/, ''));
  if (found === undefined) {
    const names = all.map((preset) => preset.name);
    const meant = nearest(name, names);
    const hint = meant === undefined ? `there is ${names.join(', ')}` : `perhaps ${meant}`;
    throw new UsageError(`There is no preset "${name}".`, hint);
  }
  process.stdout.write(found.text);
  return 0;
}
