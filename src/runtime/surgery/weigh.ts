// The tensors of a module whose ΔW is multiplied by a weight: exactly by it, and by changing as little as possible.
//
// LoRA      alpha, kept in F32: no factor loses a digit, and dividing by the weight brings the file back.
//           A negative weight flips the sign of `up` instead, since some tools take the logarithm of alpha.
// others    the one factor (or each summand) that ΔW is linear in, rounded once to its type.
// DoRA, OFT their effect is not linear in any tensor: they are copied or left out, nothing between.

import { StageFailure } from '../events.ts';
import { fromNumbers, negate, toFloat32, toFloat64 } from '../safetensors/convert.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import type { TensorToWrite } from '../safetensors/writer.ts';
import type { LoraModule } from '../sdxl/lora.ts';

/** What a weight can be for a module: any number, or only 0 and 1. */
export function isLinear(module: LoraModule): boolean {
  // A magnitude beside factors of another family makes DoRA of it.
  if (module.tensors.has('dora_scale')) return false;
  return module.family !== 'DoRA' && module.family !== 'OFT' && module.family !== 'unknown';
}

/** Nothing for 0, the same bytes for 1. Any other weight needs a linear module. */
export function weighted(file: SafetensorsFile, module: LoraModule, weight: number): readonly TensorToWrite[] {
  if (weight === 0) return [];
  if (weight === 1) return copied(file, module.tensors.values());
  if (!isLinear(module)) throw new Error(`Internal error: "${module.name}" cannot be multiplied by ${weight}.`);
  if (module.family === 'LoRA' && readsAlpha(module)) return weighLora(file, module, weight);
  const scaled = new Set(linearRoles(module));
  return [...module.tensors].map(([role, name]) =>
    scaled.has(role) ? multiplied(file, name, weight) : copy(file, name),
  );
}

/** Under other names than kohya's, readers look for an alpha elsewhere: one that is not there yet would not be found. */
function readsAlpha({ tensors, isPeft }: LoraModule): boolean {
  return !isPeft && (tensors.has('alpha') || (tensors.get('up') ?? '').endsWith('.lora_up.weight'));
}

export function copied(file: SafetensorsFile, names: Iterable<string>): readonly TensorToWrite[] {
  return [...names].map((name) => copy(file, name));
}

function copy(file: SafetensorsFile, name: string): TensorToWrite {
  const { dtype, shape } = file.tensor(name);
  return { name, dtype, shape, source: { kind: 'copy', file, tensor: name } };
}

function weighLora(file: SafetensorsFile, module: LoraModule, weight: number): readonly TensorToWrite[] {
  const tensors: TensorToWrite[] = [];
  for (const [role, name] of module.tensors) {
    if (role === 'alpha') continue;
    // A1111 reads `scale` in place of alpha / rank; a bias has no other strength than its own.
    if (role === 'scale' || role === 'diff_b')
      tensors.push(multiplied(file, name, role === 'scale' ? Math.abs(weight) : weight));
    else if (role === 'up' && weight < 0) tensors.push(negated(file, name));
    else tensors.push(copy(file, name));
  }
  const make = async (): Promise<Uint8Array> => {
    const before = await alphaOf(file, module);
    const alpha = Math.fround(before * Math.abs(weight));
    if (!Number.isFinite(alpha) || (alpha === 0 && before !== 0)) throw beyondAlpha(file, module, weight);
    return fromNumbers(Float64Array.of(alpha), 'F32');
  };
  const alphaName = module.tensors.get('alpha');
  const shape = alphaName === undefined ? [] : file.tensor(alphaName).shape;
  tensors.push({ name: alphaName ?? `${module.name}.alpha`, dtype: 'F32', shape, source: { kind: 'made', make } });
  return tensors;
}

/** A module without alpha has the scale 1. */
async function alphaOf(file: SafetensorsFile, module: LoraModule): Promise<number> {
  const name = module.tensors.get('alpha');
  if (name === undefined) return file.tensor(module.tensors.get('down') ?? '').shape[0] ?? 0;
  const numbers = toFloat64(await file.bytesOf(name), file.tensor(name).dtype);
  const [alpha] = numbers ?? [];
  if (numbers?.length !== 1 || alpha === undefined) throw badTensor(file, name, 'is not one number');
  if (!Number.isFinite(alpha)) throw badTensor(file, name, 'is not a finite number');
  return alpha;
}

/** The roles to multiply, so that ΔW is multiplied once. */
export function linearRoles(module: LoraModule): readonly string[] {
  const has = (role: string): boolean => module.tensors.has(role);
  switch (module.family) {
    case 'LoRA':
      return ['up', 'diff_b'];
    case 'LoHa':
      return ['hada_w1_a'];
    case 'LoKr': // Not alpha: readers ignore it when both factors are whole.
      return [has('lokr_w1') ? 'lokr_w1' : 'lokr_w1_a'];
    case 'GLoRA':
      return ['a2', 'b2'];
    case 'full':
      return ['diff', 'diff_b'];
    case 'norm':
      return ['w_norm', 'b_norm'];
    case 'IA3':
      return ['weight'];
    default:
      return [];
  }
}

/** From where on a type rounds up to infinity. */
const TOO_LARGE = { F16: 65_520, BF16: 2 ** 127 * (2 - 2 ** -8), F32: 2 ** 127 * (2 - 2 ** -24), F64: Infinity };

/** A tensor times a number, rounded once to its type. */
export function multiplied(file: SafetensorsFile, name: string, weight: number): TensorToWrite {
  const { dtype, shape } = file.tensor(name);
  const make = async (): Promise<Uint8Array> => {
    const bytes = await file.bytesOf(name);
    if (dtype !== 'F16' && dtype !== 'BF16' && dtype !== 'F32' && dtype !== 'F64')
      throw badTensor(file, name, `is ${dtype} and cannot be multiplied`);
    const numbers = (dtype === 'F64' ? toFloat64(bytes, dtype) : toFloat32(bytes, dtype)) ?? new Float64Array();
    const end = TOO_LARGE[dtype];
    if (!numbers.every((value) => Math.abs(value * weight) < end || !Number.isFinite(value)))
      throw badTensor(file, name, `is ${dtype}, and its numbers times ${weight} are too large for that`);
    return fromNumbers(
      numbers.map((value) => value * weight),
      dtype,
    );
  };
  return { name, dtype, shape, source: { kind: 'made', make } };
}

function negated(file: SafetensorsFile, name: string): TensorToWrite {
  const { dtype, shape } = file.tensor(name);
  const make = async (): Promise<Uint8Array> => {
    const bytes = await file.bytesOf(name);
    if (!negate(bytes, dtype)) throw badTensor(file, name, `is ${dtype} and has no signs to flip`);
    return bytes;
  };
  return { name, dtype, shape, source: { kind: 'made', make } };
}

function beyondAlpha(file: SafetensorsFile, module: LoraModule, weight: number): StageFailure {
  const size = Math.abs(weight) > 1 ? 'large' : 'small';
  return new StageFailure({
    kind: 'bad-input',
    message: `The weight ${weight} is too ${size} for "${module.name}" of "${file.path}": the alpha that says it would be ${size === 'large' ? 'infinite' : '0'}.`,
    hint: 'Weights of use lie between -10 and 10.',
  });
}

function badTensor(file: SafetensorsFile, name: string, problem: string): StageFailure {
  return new StageFailure({ kind: 'bad-input', message: `The tensor "${name}" of "${file.path}" ${problem}.` });
}
