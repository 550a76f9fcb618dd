// Singular values of the modules of a LoRA, from a decomposition that is stored: ‖ΔW‖² is the sum of their squares.

import type { SafetensorsFile } from '../safetensors/file.ts';
import { kohyaName, readModuleName } from '../sdxl/names.ts';

export interface Spectrum {
  /** In units of ΔW, the strongest first. */
  readonly sigma: Float32Array;
  /** What lies beyond them: the square of the part of ΔW that was cut off. */
  readonly discarded: number;
}

/** By kohya's names of modules. Throws where the file is no decomposition. */
export function readSpectra(factors: SafetensorsFile): ReadonlyMap<string, Spectrum> {
  const described: unknown = JSON.parse(factors.header.metadata?.get('lorac.modules') ?? 'null');
  if (typeof described !== 'object' || described === null)
    throw new Error(`Internal error: the decomposition "${factors.path}" lists no modules.`);
  const spectra = new Map<string, Spectrum>();
  for (const [name, facts] of Object.entries(described)) {
    const info = factors.header.tensors.get(`${name}.s`);
    const { family = 'LoRA', discarded = 0 } = facts as { readonly family?: unknown; readonly discarded?: unknown };
    // Of DoRA it is the LoRA part that is decomposed, which is not what the module does.
    if (info?.dtype !== 'F32' || family === 'DoRA' || typeof discarded !== 'number') continue;
    const bytes = new Uint8Array(factors.bytesNow(info));
    const spelling = readModuleName(name);
    spectra.set(spelling === undefined ? name : kohyaName(spelling), {
      sigma: new Float32Array(bytes.buffer),
      discarded,
    });
  }
  return spectra;
}

/** How many of the strongest directions shares are told of. */
export const SHARES = [1, 4, 16] as const;

/** Energy of the first 1, 4 and 16 directions of each module, and of all: σ² summed up. */
export interface Energy {
  readonly first: readonly number[];
  readonly all: number;
}

export function energyOf({ sigma, discarded }: Spectrum): Energy {
  const until = (count: number): number => sigma.subarray(0, count).reduce((sum, value) => sum + value * value, 0);
  return { first: SHARES.map(until), all: until(sigma.length) + discarded };
}

export function addEnergy(a: Energy, b: Energy): Energy {
  return { first: a.first.map((value, i) => value + (b.first[i] ?? 0)), all: a.all + b.all };
}

/** Shares of the whole, from 0 to 1. */
export function sharesOf({ first, all }: Energy): readonly number[] {
  return first.map((value) => (all === 0 ? 0 : value / all));
}
