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

/** SDXL's tensors, all of them, with narrow layers: what a checkpoint of a megabyte or two has. */
export function narrowShapes(): ReadonlyMap<string, { readonly shape: readonly number[] }> {
  return new Map([...sdxlShapes()].map(([name, { shape }]) => [name, { shape: narrowed(name, shape) }]));
}

function narrowed(name: string, shape: readonly number[]): readonly number[] {
  const widths = { 768: 16, 3072: 64, 49408: 20, 2048: 48, 2816: 32 + 1536 } as { readonly [width: number]: number };
  return shape.map((size) => {
    if (name.endsWith('position_ids') || size <= 77) return size;
    return widths[size] ?? (name.startsWith('first_stage_model.') ? size / 16 : size / 40);
  });
}
