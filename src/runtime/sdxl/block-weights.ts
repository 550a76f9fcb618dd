// What a chop says, in any of its ways, as one weight for each block.

import { BLOCKS, type BlockName, blocksNamed, MASKS, parseMask } from '../../parser/blocks.ts';

/** One of `keep`, `drop`, `mask` and `weights`, as a program writes it. */
export interface BlockChoice {
  readonly keep?: readonly string[] | undefined;
  readonly drop?: readonly string[] | undefined;
  readonly mask?: string | undefined;
  readonly weights?: { readonly [block: string]: number } | undefined;
  /** What becomes of text encoders that the choice does not name. For a mask, which names them, all but `keep` goes before it. */
  readonly text_encoders?: 'keep' | 'drop' | number | undefined;
}

/** Weights by block. A block that is not there is left out; 1 copies it. */
export type BlockWeights = { readonly [block: string]: number };

const TEXT_ENCODERS = BLOCKS.filter((block) => block.startsWith('TE'));

/** What a choice comes to, the same however it is said. */
export function blockWeights(choice: BlockChoice): BlockWeights {
  const { weights, rest } = namedWeights(choice);
  const text = { keep: 1, drop: 0 }[choice.text_encoders as string] ?? Number(choice.text_encoders ?? 1);
  const overMask = choice.mask !== undefined && choice.text_encoders !== undefined && choice.text_encoders !== 'keep';
  const all = BLOCKS.map((block) => {
    const isText = TEXT_ENCODERS.includes(block);
    const named = isText && overMask ? undefined : weights.get(block);
    return [block, named ?? (isText ? text : rest)] as const;
  });
  return Object.fromEntries(all.filter(([, weight]) => weight !== 0));
}

/** The words that ask for blocks to stay, so that one which asks in vain can be told. */
export function wantedBlocks({ keep, weights = {} }: BlockChoice): ReadonlyMap<string, readonly BlockName[]> {
  const words = keep ?? Object.keys(weights).filter((word) => weights[word] !== 0);
  return new Map(words.map((word) => [word, blocksOf([word])]));
}

/** Blocks that a mask has no number for. They are left out, and a file that has them deserves a warning. */
export function unmaskedBlocks({ mask }: BlockChoice): readonly BlockName[] {
  if (mask === undefined) return [];
  const weights = maskWeights(mask);
  return BLOCKS.filter((block) => !weights.has(block));
}

/** The weights that are written, and the one of the UNet's other blocks. */
function namedWeights(choice: BlockChoice): {
  readonly weights: ReadonlyMap<BlockName, number>;
  readonly rest: number;
} {
  if (choice.keep !== undefined) return { weights: new Map(blocksOf(choice.keep).map((block) => [block, 1])), rest: 0 };
  if (choice.drop !== undefined) return { weights: new Map(blocksOf(choice.drop).map((block) => [block, 0])), rest: 1 };
  if (choice.mask !== undefined) return { weights: maskWeights(choice.mask), rest: 0 };
  if (choice.weights !== undefined) return { weights: recordWeights(choice.weights), rest: 0 };
  throw new Error('Internal error: a chop names no blocks.');
}

function maskWeights(mask: string): ReadonlyMap<BlockName, number> {
  const entries = parseMask(mask);
  const layout = MASKS.get(entries.length);
  const weights = new Map<BlockName, number>();
  for (const [index, { text, weight }] of entries.entries()) {
    if (weight === undefined || layout === undefined)
      throw new Error(`Internal error: "${text}" in a mask of ${entries.length}.`);
    for (const block of layout[index] ?? []) weights.set(block, weight);
  }
  return weights;
}

/** `{ OUT = 0.5  OUT01 = 1 }`: a block by its own name goes before its group, wherever it stands. */
function recordWeights(record: { readonly [block: string]: number }): ReadonlyMap<BlockName, number> {
  const entries = Object.entries(record).map(([word, weight]) => ({ blocks: blocksOf([word]), weight }));
  const broadFirst = entries.toSorted((a, b) => b.blocks.length - a.blocks.length);
  return new Map(broadFirst.flatMap(({ blocks, weight }) => blocks.map((block) => [block, weight] as const)));
}

function blocksOf(words: readonly string[]): readonly BlockName[] {
  return words.flatMap((word) => {
    const blocks = blocksNamed(word);
    if (blocks === undefined) throw new Error(`Internal error: no block is named "${word}".`);
    return blocks;
  });
}
