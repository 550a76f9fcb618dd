// Ranks and rates of blocks and of single layers, as arguments of networks.lora, networks.loha and networks.lokr.

import { type Asked, argumentsOf } from './asked.ts';
import { pairsOf, patternOf, shapeOf } from './layer-patterns.ts';
import { asNumber, asNumbers, type Plain } from './plain.ts';

export type Leave = (name: string, value: Plain, reason: string) => void;

/** Blocks in the order in which networks.lora lists 23 ranks: the first and the last are what lies outside of blocks. */
const inner = ['IN', 'MID', 'OUT'].flatMap((part) =>
  Array.from({ length: part === 'MID' ? 3 : 9 }, (_, at) => `${part}0${at}`),
);

interface RanksOfParts {
  readonly dims: { readonly [blockOrPattern: string]: number };
  readonly conv_dims: { readonly [blockOrPattern: string]: number };
}

/** `block_dims` and `conv_block_dims`, 23 ranks, and `network_reg_dims`, which says no shape. */
export function ranksOfParts(asked: Asked): RanksOfParts {
  const args = argumentsOf(asked.peek('network_args'));
  const dims = blockRanks(asked, args, 'block_dims');
  const conv_dims = blockRanks(asked, args, 'conv_block_dims');
  const leave: Leave = (name, value, reason) => asked.leaveValue({ name, value, reason });
  const layers = patternsOf(args, 'network_reg_dims', leave).filter(
    ([, rank]) => Number.isInteger(rank) && rank >= 0 && rank <= 4096,
  );
  if (layers.length > 1)
    asked.leaveValue({
      name: 'network_reg_dims',
      value: args.get('network_reg_dims') ?? '',
      reason: 'Of several patterns that fit a layer, the one that fits fewest counts here, and the first one there.',
      isHarmless: true,
    });
  const convDim = asNumber(args.get('conv_dim'));
  return {
    dims: { ...dims, ...Object.fromEntries(layers.filter(([pattern]) => shapeOf(pattern) !== '3x3')) },
    conv_dims: {
      // There a rank of 0 is for linear layers alone.
      ...Object.fromEntries(
        Object.keys(dims).flatMap((block) => (dims[block] === 0 && convDim ? [[block, convDim]] : [])),
      ),
      ...conv_dims,
      ...Object.fromEntries(layers.filter(([pattern]) => shapeOf(pattern) !== 'linear')),
    },
  };
}

function blockRanks(asked: Asked, args: ReadonlyMap<string, string>, name: string): { [block: string]: number } {
  const text = args.get(name);
  if (text === undefined || text === '') return {};
  const numbers = asNumbers(text);
  if (
    numbers?.length !== inner.length + 2 ||
    !numbers.every((one) => Number.isInteger(one) && one >= 0 && one <= 4096)
  ) {
    asked.leaveValue({
      name,
      value: text,
      reason: `It needs ${inner.length + 2} whole numbers, one for each block of SDXL.`,
    });
    return {};
  }
  return Object.fromEntries(inner.map((block, at) => [block, numbers[at + 1] as number]));
}

/** `network_reg_lrs`: rates, and no factors. */
export function layerRates(args: ReadonlyMap<string, string>, leave: Leave): { readonly [pattern: string]: number } {
  return Object.fromEntries(patternsOf(args, 'network_reg_lrs', leave).filter(([, rate]) => rate >= 0));
}

/** Pairs of sd-scripts as patterns with their numbers, the first for each pattern. */
function patternsOf(
  args: ReadonlyMap<string, string>,
  name: string,
  leave: Leave,
): readonly (readonly [string, number])[] {
  const found = new Map<string, number>();
  for (const [expression, number] of pairsOf(args.get(name) ?? '')) {
    const pattern = patternOf(expression);
    if (pattern === undefined)
      leave(name, `${expression}=${number}`, 'A pattern is a name as LoRA files have it, with * for any letters.');
    else if (!found.has(pattern)) found.set(pattern, number);
  }
  return [...found];
}
