// The tables of SDXL's names, as the tests use them.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const fixtures = join(import.meta.dirname, '../../fixtures');

export interface ModuleEntry {
  readonly lora_key: string;
  readonly ldm_key: string;
  readonly ldm_rows?: readonly [number, number];
  readonly diffusers_key: string;
  readonly kind: 'linear' | 'conv1x1' | 'conv3x3';
  readonly in: number;
  readonly out: number;
  readonly stride?: number;
  readonly padding?: number;
  readonly block: string;
}

export function sdxlModules(): readonly ModuleEntry[] {
  return JSON.parse(readFileSync(join(fixtures, 'sdxl-lora-modules.json'), 'utf8')) as ModuleEntry[];
}

/** The shapes of all tensors of a standard SDXL checkpoint. */
export function sdxlShapes(): ReadonlyMap<string, { readonly shape: readonly number[] }> {
  const parts = JSON.parse(readFileSync(join(fixtures, 'sdxl-keys.json'), 'utf8')) as Record<
    string,
    Record<string, number[]>
  >;
  return new Map(
    Object.values(parts).flatMap((part) => Object.entries(part).map(([name, shape]) => [name, { shape }] as const)),
  );
}
