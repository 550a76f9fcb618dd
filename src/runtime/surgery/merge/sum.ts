// The sum of what several files do to one weight: Σ w·ΔW, in the smallest form that holds it exactly.
//
// factors side by side    up = [up₁·q₁ … upₙ·qₙ], down below each other, alpha = (r₁ + … + rₙ)·c. c is the largest of the
//                         strengths |w·α/r|, and q what each is of it: the strongest keeps every bit of its factors.
// beside the identity     the whole sum and an identity, where LoRAs have more ranks together than the weight has:
//                         still a LoRA, for tools that know nothing else.
// diff                    the whole sum, where other families have more factors than it has numbers.

import { addTo, asFactors, besideIdentity, type Matrix, type Product, zeros } from '../../adapters/product.ts';
import { NoDelta, readProduct } from '../../adapters/read-product.ts';
import { StageFailure } from '../../events.ts';
import type { ModuleFacts } from '../../inspect/module-facts.ts';
import { type FloatDtype, fromNumbers } from '../../safetensors/convert.ts';
import type { TensorToWrite } from '../../safetensors/writer.ts';
import type { LoraSource } from './input.ts';
import {
  balanced,
  belowEachOther,
  besideEachOther,
  multipliedBytes,
  requireFinite,
  roundedBytes,
  type StoredTensor,
  storedAlpha,
} from './numbers.ts';

/** What one file adds to a weight. */
export interface Term {
  readonly source: LoraSource;
  readonly facts: ModuleFacts;
  /** w · α/r: what its factors are multiplied by. */
  readonly strength: number;
  /** Of its exact factors. */
  readonly rank: number;
}

export interface Sum {
  readonly tensors: readonly TensorToWrite[];
  readonly form: 'LoRA' | 'diff';
  /** Of a LoRA. */
  readonly rank: number | undefined;
  readonly alpha: number | undefined;
}

export interface SumOptions {
  readonly name: string;
  /** All of one shape, none of them without effect. */
  readonly terms: readonly Term[];
  /** Of the weight: out × in, and the sides of a kernel. */
  readonly shape: readonly number[];
  readonly dtype: FloatDtype;
}

export function sumOf(options: SumOptions): Sum {
  const { terms, shape } = options;
  const [out = 1, ...rest] = shape;
  const columns = rest.reduce((product, side) => product * side, 1);
  const rank = terms.reduce((sum, term) => sum + term.rank, 0);
  if (terms.every(({ facts }) => facts.module.family === 'LoRA')) {
    return rank <= Math.min(out, columns) ? sideBySide(options, rank) : fullRank(options, Math.min(out, columns));
  }
  return rank * (out + columns) < out * columns ? sideBySide(options, rank) : whole(options);
}

function sideBySide(options: SumOptions, rank: number): Sum {
  const { terms, dtype, shape } = options;
  const [out = 1] = shape;
  const strongest = Math.max(...terms.map(({ strength }) => Math.abs(strength)));
  const parts = terms.map((term) => factorBytes(term, term.strength / strongest, dtype));
  return loraOf(options, {
    rank,
    alpha: rank * strongest,
    up: async () => besideEachOther(await inTurn(parts.map(({ up }) => up)), out, dtype),
    down: async () => belowEachOther(await inTurn(parts.map(({ down }) => down))),
  });
}

function fullRank(options: SumOptions, rank: number): Sum {
  const factors = once(async () => balanced(besideIdentity(await wholeSum(options)), 1), 2);
  const { name, dtype } = options;
  return loraOf(options, {
    rank,
    alpha: rank,
    up: async () => roundedBytes((await factors()).up.data, 1, dtype, name),
    down: async () => roundedBytes((await factors()).down.data, 1, dtype, name),
  });
}

function whole(options: SumOptions): Sum {
  const { name, dtype, shape } = options;
  const make = async (): Promise<Uint8Array> => roundedBytes((await wholeSum(options)).data, 1, dtype, name);
  const tensor: TensorToWrite = { name: `${name}.diff`, dtype, shape, source: { kind: 'made', make } };
  return { tensors: [tensor], form: 'diff', rank: undefined, alpha: undefined };
}

interface Factory {
  readonly rank: number;
  readonly alpha: number;
  readonly up: () => Promise<Uint8Array>;
  readonly down: () => Promise<Uint8Array>;
}

function loraOf({ name, dtype, shape }: SumOptions, { rank, alpha, up, down }: Factory): Sum {
  const [out = 1, ...rest] = shape;
  const single = storedAlpha(alpha, name);
  const kernel = rest.slice(1);
  return {
    form: 'LoRA',
    rank,
    alpha: single,
    tensors: [
      {
        name: `${name}.alpha`,
        dtype: 'F32',
        shape: [],
        source: { kind: 'bytes', bytes: fromNumbers(Float64Array.of(single), 'F32') },
      },
      { name: `${name}.lora_down.weight`, dtype, shape: [rank, ...rest], source: { kind: 'made', make: down } },
      {
        name: `${name}.lora_up.weight`,
        dtype,
        shape: [out, rank, ...kernel.map(() => 1)],
        source: { kind: 'made', make: up },
      },
    ],
  };
}

interface FactorBytes {
  readonly up: () => Promise<Uint8Array<ArrayBuffer>>;
  readonly down: () => Promise<Uint8Array<ArrayBuffer>>;
}

/** A plain LoRA's factors come straight from the file, each by itself; others are worked out together. */
function factorBytes(term: Term, ratio: number, dtype: FloatDtype): FactorBytes {
  const { source, facts } = term;
  const { module } = facts;
  const [up, down] = [module.tensors.get('up'), module.tensors.get('down')];
  if (module.family === 'LoRA' && !module.tensors.has('mid') && up !== undefined && down !== undefined) {
    const tensor = (name: string): StoredTensor => ({ source, name });
    return {
      up: () => multipliedBytes(tensor(up), ratio, dtype),
      down: () => multipliedBytes(tensor(down), 1, dtype),
    };
  }
  const factors = once(async () => balanced(asFactors(await productOf(term)), ratio), 2);
  const bytes = async (which: 'up' | 'down'): Promise<Uint8Array<ArrayBuffer>> =>
    roundedBytes((await factors())[which].data, 1, dtype, `${module.name}" of "${source.label}`);
  return { up: () => bytes('up'), down: () => bytes('down') };
}

/** Σ w·ΔW in doubles. */
async function wholeSum({ terms, shape }: SumOptions): Promise<Matrix> {
  const [out = 1, ...rest] = shape;
  const sum = zeros(
    out,
    rest.reduce((product, side) => product * side, 1),
  );
  for (const term of terms) addTo(sum, await productOf(term), term.strength);
  return sum;
}

async function productOf({ source, facts }: Term): Promise<Product> {
  const { name } = facts.module;
  try {
    const product = await readProduct(source, facts.module);
    requireFinite(product, { name, source });
    return product;
  } catch (error) {
    if (!(error instanceof NoDelta)) throw error;
    throw new StageFailure({ kind: 'bad-input', message: `"${name}" of "${source.label}" ${error.message}.` });
  }
}

/** One after the other, so that no more than one is being worked on. */
async function inTurn<T>(makers: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = [];
  for (const make of makers) results.push(await make());
  return results;
}

/** Makes a thing at the first call and lets go of it at the last: up and down are asked for one after the other. */
function once<T>(make: () => Promise<T>, calls: number): () => Promise<T> {
  let made: Promise<T> | undefined;
  let left = calls;
  return () => {
    const result = made ?? make();
    left -= 1;
    made = left > 0 ? result : undefined;
    return result;
  };
}
