// What becomes of one module when files are merged, or why it cannot be merged.
//
// in one file        its family stays, and what its ΔW is linear in is multiplied; with the weight 1 nothing changes
// in several files   weights of layers are summed (merge-sum.ts), and so are biases, norms, and IA³ on the same side
// DoRA, OFT, GLoRA, unknown   need more than their own tensors to be summed: refused, unless they are alone with the weight 1

import { exactRank } from '../../adapters/exact-rank.ts';
import type { ModuleFacts } from '../../inspect/module-facts.ts';
import { type FloatDtype, fromNumbers } from '../../safetensors/convert.ts';
import type { TensorToWrite } from '../../safetensors/writer.ts';
import type { Family } from '../../sdxl/lora.ts';
import { tensorName } from '../canonical.ts';
import { isLinear, linearRoles } from '../weigh.ts';
import type { LoraSource } from './input.ts';
import { isFloat, multipliedBytes, roundedBytes, storedAlpha, summedNumbers } from './numbers.ts';
import { Unmergeable, weightShape } from './shape.ts';
import { sumOf, type Term } from './sum.ts';

/** A module as one of the files has it. */
export interface Part {
  readonly source: LoraSource;
  readonly facts: ModuleFacts;
}

export interface MergedModule {
  readonly tensors: readonly TensorToWrite[];
  /** What the module is now: `LoRA`, `diff`, or its family where that stayed. */
  readonly form: string;
  /** Of LoRA. */
  readonly rank: number | undefined;
  readonly alpha: number | undefined;
}

/** Throws `Unmergeable`. `undefined`: none of the files does anything there. */
export function mergeModule(name: string, parts: readonly Part[], dtype: FloatDtype): MergedModule | undefined {
  for (const { facts, source } of parts) {
    const [problem] = facts.problems;
    if (problem !== undefined && (parts.length > 1 || facts.module.family !== 'unknown')) {
      throw new Unmergeable(`cannot be read from "${source.label}": ${problem}`);
    }
  }
  const [first, second] = parts;
  if (first === undefined) return undefined;
  return second === undefined ? alone(first, dtype) : together(name, parts, dtype);
}

function alone(part: Part, dtype: FloatDtype): MergedModule {
  const { source, facts } = part;
  const { label, weight } = source;
  const { module } = facts;
  const form = module.family === 'full' ? 'diff' : module.family;
  if (!isLinear(module)) {
    if (weight !== 1) throw new Unmergeable(`is ${module.family} in "${label}" and cannot be multiplied by ${weight}`);
    return { ...facts, form, tensors: [...module.tensors.values()].map((tensor) => kept(part, tensor)) };
  }
  return module.family === 'LoRA' ? aloneLora(part, dtype) : { ...unranked(form), tensors: aloneOther(part, dtype) };
}

/** The strength is in alpha, kept in F32: no factor loses a digit. A negative one flips `up`, since some tools take the logarithm. */
function aloneLora(part: Part, dtype: FloatDtype): MergedModule {
  const { source, facts } = part;
  const { weight } = source;
  const { module, rank = 0, scale = 1 } = facts;
  const strength = weight * scale;
  const factors: { readonly [role: string]: number } = { up: Math.sign(strength) || 1, diff_b: weight };
  const alpha = storedAlpha(Math.abs(strength) * rank, module.name);
  const tensors = [...module.tensors]
    // They are in alpha from now on.
    .filter(([role]) => role !== 'alpha' && role !== 'scale' && role !== 'scalar')
    .map(([role, tensor]) => ({
      ...multiplied(part, tensor, factors[role] ?? 1, dtype),
      name: tensorName(module.name, role),
    }));
  return { form: 'LoRA', rank, alpha, tensors: [alphaTensor(part, alpha), ...tensors] };
}

function alphaTensor({ source, facts }: Part, alpha: number): TensorToWrite {
  const { name, tensors } = facts.module;
  const stored = tensors.get('alpha');
  return {
    name: `${name}.alpha`,
    dtype: 'F32',
    shape: stored === undefined ? [] : source.tensor(stored).shape,
    source: { kind: 'bytes', bytes: fromNumbers(Float64Array.of(alpha), 'F32') },
  };
}

function aloneOther(part: Part, dtype: FloatDtype): readonly TensorToWrite[] {
  const { source, facts } = part;
  const { weight } = source;
  const linear = new Set([...linearRoles(facts.module), 'diff_b']);
  return [...facts.module.tensors].map(([role, tensor]) => {
    if (role === 'alpha' || role === 'scale' || role === 'scalar') return kept(part, tensor);
    return multiplied(part, tensor, linear.has(role) ? weight : 1, dtype);
  });
}

/** What a module of each family may have for its sum with others to say all that it does. */
const SUMMABLE: { readonly [family in Family]?: RegExp } = {
  LoRA: /^(?:up|down|mid|alpha|scale|scalar|dyn_dim|diff_b)$/,
  LoHa: /^(?:hada_\w+|alpha|scale|scalar|diff_b)$/,
  LoKr: /^(?:lokr_\w+|alpha|scale|scalar|diff_b)$/,
  full: /^(?:diff|diff_b|alpha)$/,
  norm: /^(?:w_norm|b_norm)$/,
  IA3: /^(?:weight|on_input)$/,
};

function together(name: string, parts: readonly Part[], dtype: FloatDtype): MergedModule | undefined {
  for (const { facts, source } of parts) {
    const { label } = source;
    const { module } = facts;
    if (module.family === 'GLoRA') throw new Unmergeable(`is GLoRA in "${label}", whose effect depends on the base`);
    if (!isLinear(module)) throw new Unmergeable(`is ${module.family} in "${label}", which nothing can be added to`);
    const strange = [...module.tensors.keys()].find((role) => SUMMABLE[module.family]?.test(role) !== true);
    if (strange !== undefined) throw new Unmergeable(`has "${strange}" in "${label}", which cannot be added to others`);
  }
  const families = new Set(parts.map(({ facts }) => facts.module.family));
  if (families.has('norm') || families.has('IA3')) {
    if (families.size > 1) throw new Unmergeable(`is of different kinds: ${kindsOf(parts)}`);
    return families.has('IA3') ? sameSide(name, parts, dtype) : summed(name, parts, ['w_norm', 'b_norm'], dtype);
  }
  if (families.size === 1 && families.has('full')) return summed(name, parts, ['diff', 'diff_b'], dtype);
  const weights = parts.filter(({ facts }) => facts.module.family !== 'full' || facts.module.tensors.has('diff'));
  const shape = weightShape(weights);
  const terms = weights.map(termOf).filter(({ strength, rank }) => strength !== 0 && rank > 0);
  const sum = terms.length === 0 ? undefined : sumOf({ name, terms, shape, dtype });
  const biases = summed(name, parts, ['diff_b'], dtype);
  if (sum === undefined) return biases;
  return { ...sum, tensors: [...sum.tensors, ...(biases?.tensors ?? [])] };
}

function termOf({ source, facts }: Part): Term {
  const shapeOf = (role: string): readonly number[] | undefined => {
    const tensor = facts.module.tensors.get(role);
    return tensor === undefined ? undefined : source.tensor(tensor).shape;
  };
  const rank = exactRank(facts.module, shapeOf);
  if (rank === undefined) throw new Unmergeable(`lacks some of its factors in "${source.label}"`);
  return { source, facts, rank, strength: source.weight * (facts.scale ?? 1) };
}

/** IA³ multiplies rows or columns of the base weight, and numbers of the one side say nothing about the other. */
function sameSide(name: string, parts: readonly Part[], dtype: FloatDtype): MergedModule | undefined {
  const sides = parts.map(({ source, facts }) => source.numbers.get(facts.module.tensors.get('on_input') ?? '') !== 0);
  if (new Set(sides).size > 1) throw new Unmergeable('multiplies inputs in one file and outputs in another');
  const sum = summed(name, parts, ['weight'], dtype);
  const [first] = parts;
  const side = first?.facts.module.tensors.get('on_input');
  if (sum === undefined || first === undefined || side === undefined) return sum;
  return { ...sum, tensors: [...sum.tensors, kept(first, side)] };
}

/** Tensors whose numbers are added, role by role; files that lack one add nothing to it. */
function summed(
  name: string,
  parts: readonly Part[],
  roles: readonly string[],
  dtype: FloatDtype,
): MergedModule | undefined {
  const tensors = roles.flatMap((role): readonly TensorToWrite[] => {
    const terms = parts.flatMap(({ source, facts }) => {
      const tensor = facts.module.tensors.get(role);
      return tensor === undefined ? [] : [{ source, name: tensor, factor: source.weight }];
    });
    const [first] = terms;
    if (first === undefined) return [];
    const { shape } = first.source.tensor(first.name);
    const other = terms.find((term) => `${term.source.tensor(term.name).shape}` !== `${shape}`);
    if (other !== undefined) {
      const [a, b] = [first, other].map((term) => `[${term.source.tensor(term.name).shape}] in "${term.source.label}"`);
      throw new Unmergeable(`has "${role}" in different shapes: ${a} and ${b}`);
    }
    const make = async (): Promise<Uint8Array> => roundedBytes(await summedNumbers(terms), 1, dtype, `${name}.${role}`);
    return [{ name: `${name}.${role}`, dtype, shape, source: { kind: 'made', make } }];
  });
  const [first] = parts;
  if (tensors.length === 0 || first === undefined) return undefined;
  const { family } = first.facts.module;
  return { ...unranked(family === 'norm' || family === 'IA3' ? family : 'diff'), tensors };
}

/** The same bytes, once they are known to be numbers. */
function kept({ source }: Part, name: string): TensorToWrite {
  const tensor = source.tensor(name);
  const { dtype } = tensor;
  if (!isFloat(dtype)) return tensor;
  return { ...tensor, source: { kind: 'made', make: () => multipliedBytes({ source, name }, 1, dtype) } };
}

function multiplied(part: Part, name: string, factor: number, dtype: FloatDtype): TensorToWrite {
  const { source } = part;
  const tensor = source.tensor(name);
  // Packed and 8-bit floats, and what is no float: there is nothing to be rounded.
  if (!isFloat(tensor.dtype) && factor === 1) return tensor;
  return { ...tensor, dtype, source: { kind: 'made', make: () => multipliedBytes({ source, name }, factor, dtype) } };
}

function unranked(form: string): Pick<MergedModule, 'form' | 'rank' | 'alpha'> {
  return { form, rank: undefined, alpha: undefined };
}

/** `LoRA in "a", norm in "b"`. */
function kindsOf(parts: readonly Part[]): string {
  return parts.map(({ facts, source }) => `${facts.module.family} in "${source.label}"`).join(', ');
}
