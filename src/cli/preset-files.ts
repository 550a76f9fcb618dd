// The presets that come with lorac: ordinary .lora files, which programs import as "lorac:NAME".

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../runtime/package-root.ts';

export interface Preset {
  readonly name: string;
  /** The first line of the file, without its "#". */
  readonly about: string;
  readonly text: string;
}

export function presets(): readonly Preset[] {
  return readdirSync(folder())
    .filter((file) => file.endsWith('.lora'))
    .sort()
    .map((file) => {
      const text = readFileSync(join(folder(), file), 'utf8');
      const about = /^# (.*)$/m.exec(text)?.[1] ?? '';
      return { name: file.replace(/\.lora$/, ''), about, text };
    });
}

export function presetPath(name: string): string {
  return join(folder(), `${name}.lora`);
}

const folder = () => join(packageRoot(), 'presets');
