// The decomposition of a LoRA, as the worker writes it.
//
// For each module M the file has M.u [R, out], M.s [R] and M.vt [R, in·k²], F32, one row per direction, the strongest
// first, so only the rows that stay are read. σ is in units of ΔW. The metadata describes modules as JSON.

import { StageFailure } from '../../events.ts';
import type { SafetensorsFile } from '../../safetensors/file.ts';
import type { Spectrum } from './recipe.ts';

export interface FactorModule extends Spectrum {
  readonly out: number;
  /** Of one row of vt: in · k². */
  readonly width: number;
  /** Of the original, without its sign, which is in `u`. */
  readonly alpha: number;
  readonly upShape: readonly number[];
  readonly downShape: readonly number[];
  /** ‖ΔW − U σ V‖ / ‖ΔW‖ as measured by who decomposed it. */
  readonly residual: number;
  /** Σσ² of the directions that the decomposition itself left out. */
  readonly discarded: number;
}

export interface Decomposition {
  /** Sorted by name. */
  readonly modules: readonly FactorModule[];
  /** Why modules are not among them, by name. */
  readonly skipped: ReadonlyMap<string, string>;
}

export async function readFactors(file: SafetensorsFile): Promise<Decomposition> {
  const described = factsOf(file, 'lorac.modules');
  const names = Object.keys(described).sort();
  const modules = await Promise.all(names.map((name) => readModule(file, name, described[name])));
  const skipped = Object.entries(factsOf(file, 'lorac.skipped')).map(([name, why]) => [name, String(why)] as const);
  return { modules, skipped: new Map(skipped) };
}

function factsOf(file: SafetensorsFile, key: string): { readonly [module: string]: unknown } {
  const described: unknown = JSON.parse(file.header.metadata?.get(key) ?? 'null');
  if (typeof described !== 'object' || described === null) throw broken(file, `has no "${key}"`);
  return described as { readonly [module: string]: unknown };
}

async function readModule(file: SafetensorsFile, name: string, facts: unknown): Promise<FactorModule> {
  const {
    scale,
    up_shape: upShape,
    down_shape: downShape,
    residual = 0,
    discarded = 0,
  } = facts as Record<string, unknown>;
  const u = file.tensor(`${name}.u`);
  const vt = file.tensor(`${name}.vt`);
  const sigma = new Float32Array((await file.bytesOf(`${name}.s`)).buffer);
  const [, out = 0] = u.shape;
  const [, width = 0] = vt.shape;
  const fits = u.shape[0] === sigma.length && vt.shape[0] === sigma.length && u.dtype === 'F32' && vt.dtype === 'F32';
  if (!fits || typeof scale !== 'number' || !isShape(upShape) || !isShape(downShape)) {
    throw broken(file, `describes "${name}" wrongly`);
  }
  if (typeof residual !== 'number' || typeof discarded !== 'number') throw broken(file, `describes "${name}" wrongly`);
  if (!sigma.every(Number.isFinite)) throw notFinite(`${name}.s`);
  // Rounded as files hold it, since a division and a multiplication may not give back what was.
  const alpha = Math.fround(scale * (downShape[0] ?? 0));
  return { name, sigma, parameters: out + width, out, width, alpha, upShape, downShape, residual, discarded };
}

function isShape(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every(Number.isSafeInteger);
}

function broken(file: SafetensorsFile, problem: string): Error {
  return new Error(`Internal error: the decomposition "${file.path}" ${problem}.`);
}

export function notFinite(tensor: string): StageFailure {
  return new StageFailure({
    kind: 'non-finite',
    message: `The tensor "${tensor}" of the decomposition has values that are not finite numbers.`,
    hint: 'The training that made the LoRA went wrong; train again with a lower learning rate.',
  });
}
