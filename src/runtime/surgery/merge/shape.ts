// The shape of the weight that several files adapt. Flattened factors hide a kernel; another of the files,
// the network that the module belongs to, or the layer's name may know it.

import type { ModuleFacts } from '../../inspect/module-facts.ts';
import type { LoraSource } from './input.ts';

/** Why a module cannot be merged: the words that follow its name. */
export class Unmergeable extends Error {
  readonly hint: string;
  constructor(message: string, hint = 'Leave such modules out of one of the files first, as with lorac chop --drop.') {
    super(message);
    this.hint = hint;
  }
}

const OTHER_MODEL = 'LoRAs of different shapes are for different models, whatever else they have in common.';

interface Sized {
  readonly source: LoraSource;
  readonly facts: ModuleFacts;
}

/** out, in, and the sides of a convolution's kernel. Throws `Unmergeable` where the files do not fit each other. */
export function weightShape(parts: readonly Sized[]): readonly number[] {
  const [first] = parts;
  if (first === undefined) throw new Error('Internal error: a weight that nothing adapts has no shape.');
  const strange = parts.find(({ facts }) => facts.out === undefined || facts.columns === undefined);
  if (strange !== undefined) throw new Unmergeable(`has factors in "${strange.source.label}" that are no matrices`);
  const other = parts.find(({ facts }) => facts.out !== first.facts.out || facts.columns !== first.facts.columns);
  if (other !== undefined) {
    const [a, b] = [first, other].map(({ facts, source }) => `${facts.out} × ${facts.columns} in "${source.label}"`);
    throw new Unmergeable(`adapts a weight of ${a} and of ${b}`, OTHER_MODEL);
  }
  const { out = 0, columns = 0 } = first.facts;
  const kernel = kernelOf(parts);
  const area = kernel.reduce((product, side) => product * side, 1);
  return [out, columns / area, ...kernel];
}

function kernelOf(parts: readonly Sized[]): readonly number[] {
  const known = parts.flatMap(({ facts, source }) =>
    facts.kernel === undefined ? [] : [{ kernel: facts.kernel, label: source.label }],
  );
  const [first, other] = distinct(known.filter(({ kernel }) => kernel.length > 0));
  if (first !== undefined && other !== undefined) {
    const [a, b] = [first, other].map(({ kernel, label }) => `${kernel.join(' × ')} in "${label}"`);
    throw new Unmergeable(`is a convolution with a kernel of ${a} and of ${b}`, OTHER_MODEL);
  }
  if (first !== undefined) return first.kernel;
  return known.length > 0
    ? []
    : (parts.map(({ facts }) => guessedKernel(facts)).find(({ length }) => length > 0) ?? []);
}

function distinct<T extends { readonly kernel: readonly number[] }>(entries: readonly T[]): readonly T[] {
  return entries.filter(
    ({ kernel }, index) => entries.findIndex((entry) => `${entry.kernel}` === `${kernel}`) === index,
  );
}

/** What the network says, or where it is unknown the layer's name. */
function guessedKernel({ kind, key, columns = 0 }: ModuleFacts): readonly number[] {
  if (kind === 'conv3x3' || (/_(?:in_layers_2|out_layers_3|op|conv)$/.test(key) && columns % 9 === 0)) return [3, 3];
  return kind === 'conv1x1' || key.endsWith('_skip_connection') ? [1, 1] : [];
}
