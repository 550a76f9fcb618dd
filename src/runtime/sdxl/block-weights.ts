// What a chop says, in any of its ways, as one weight for each block.

import { type BlockName, blocksNamed, type Network, parseMask, SDXL } from '../../parser/blocks.ts';

/** One of `keep`, `drop`, `mask` and `weights`, as a program writes it. */
export interface BlockChoice {
  readonly keep?: readonly string[] | undefined;
  readonly drop?: readonly string[] | undefined;
  readonly mask?: string | undefined;
  readonly weights?: { readonly [block: string]: number } | undefined;
  /** What becomes of text encoders that the choice does not name. For a mask, which names them, all but `keep` goes before it. */
  readonly text_encoders?: 'keep' | 'drop' | number | undefined;
}

/**
 * Weights by block. A block that is not there is left out; 1 copies it. A layer of a text encoder is there where its
 * weight is not that of its encoder, so that equal meanings have equal weights.
 */
export type BlockWeights = { readonly [block: string]: number };

/** What a choice comes to, the same however it is said. */
export function blockWeights(choice: BlockChoice, network: Network = SDXL): BlockWeights {
  const { weights, rest } = namedWeights(choice, network);
  const all = network.blocks.flatMap((block): (readonly [BlockName, number])[] => {
    const layers = network.layers.get(block);
    if (layers !== undefined) return encoderWeights(choice, { encoder: block, layers, named: weights });
    const weight = weights.get(block) ?? rest;
    return weight === 0 ? [] : [[block, weight]];
  });
  return Object.fromEntries(all);
}

/** What becomes of a module in this block, and in this layer if it is in one. */
export function weightIn(
  weights: BlockWeights,
  { block, layer }: { readonly block: BlockName; readonly layer: BlockName | undefined },
): number {
  return (layer === undefined ? undefined : weights[layer]) ?? weights[block] ?? 0;
}

/** The words that ask for blocks to stay, so that one which asks in vain can be told. */
export function wantedBlocks(
  { keep, weights = {} }: BlockChoice,
  network: Network = SDXL,
): ReadonlyMap<string, readonly BlockName[]> {
  const words = keep ?? Object.keys(weights).filter((word) => weights[word] !== 0);
  return new Map(words.map((word) => [word, blocksOf([word], network)]));
}

/** Blocks that a mask has no number for. They are left out, and a file that has them deserves a warning. */
export function unmaskedBlocks({ mask }: BlockChoice, network: Network = SDXL): readonly BlockName[] {
  if (mask === undefined) return [];
  const weights = maskWeights(mask, network);
  return network.blocks.filter((block) => !weights.has(block));
}

interface Encoder {
  readonly encoder: BlockName;
  readonly layers: readonly BlockName[];
  readonly named: ReadonlyMap<BlockName, number>;
}

/** Naming some layers among what stays says that the other layers of that encoder go, as with blocks. */
function encoderWeights(choice: BlockChoice, { encoder, layers, named }: Encoder): (readonly [BlockName, number])[] {
  const text = { keep: 1, drop: 0 }[choice.text_encoders as string] ?? Number(choice.text_encoders ?? 1);
  const isOverMask = choice.mask !== undefined && choice.text_encoders !== undefined && choice.text_encoders !== 'keep';
  const isNamed = !isOverMask && [encoder, ...layers].some((block) => named.has(block));
  const others = isNamed && choice.drop === undefined ? 0 : text;
  const weightOf = (block: BlockName): number => (isNamed ? named.get(block) : undefined) ?? others;
  const first = weightOf(layers[0] ?? encoder);
  // All layers alike are the whole encoder, embeddings and projection with them, unless these have a weight of their own.
  const isWhole = !named.has(encoder) && layers.every((layer) => weightOf(layer) === first);
  const own = isWhole ? first : weightOf(encoder);
  const apart = layers.map((layer) => [layer, weightOf(layer)] as const).filter(([, weight]) => weight !== own);
  return own === 0 ? apart : [[encoder, own], ...apart];
}

/** The weights that are written, and the one of the UNet's other blocks. */
function namedWeights(
  choice: BlockChoice,
  network: Network,
): { readonly weights: ReadonlyMap<BlockName, number>; readonly rest: number } {
  const { keep, drop, mask, weights } = choice;
  const all = (words: readonly string[], weight: number) => Object.fromEntries(words.map((word) => [word, weight]));
  if (keep !== undefined) return { weights: numbersByBlock(all(keep, 1), network), rest: 0 };
  if (drop !== undefined) return { weights: numbersByBlock(all(drop, 0), network), rest: 1 };
  if (mask !== undefined) return { weights: maskWeights(mask, network), rest: 0 };
  if (weights !== undefined) return { weights: numbersByBlock(weights, network), rest: 0 };
  throw new Error('Internal error: a chop names no blocks.');
}

function maskWeights(mask: string, network: Network): ReadonlyMap<BlockName, number> {
  const entries = parseMask(mask);
  const layout = network.masks.get(entries.length);
  const weights = new Map<BlockName, number>();
  for (const [index, { text, weight }] of entries.entries()) {
    if (weight === undefined || layout === undefined)
      throw new Error(`Internal error: "${text}" in a mask of ${entries.length}.`);
    for (const block of layout[index] ?? []) setWhole(weights, network, block, weight);
  }
  return weights;
}

/** `{ OUT = 0.5  OUT01 = 1 }`: a block by its own name goes before its group, and a layer before its encoder, wherever it stands. */
export function numbersByBlock(
  record: { readonly [block: string]: number },
  network: Network = SDXL,
): ReadonlyMap<BlockName, number> {
  const entries = Object.entries(record).map(([word, weight]) => ({ blocks: blocksOf([word], network), weight }));
  const breadth = (blocks: readonly BlockName[]): number =>
    blocks.reduce((sum, block) => sum + 1 + (network.layers.get(block)?.length ?? 0), 0);
  const weights = new Map<BlockName, number>();
  for (const { blocks, weight } of entries.toSorted((a, b) => breadth(b.blocks) - breadth(a.blocks)))
    for (const block of blocks) setWhole(weights, network, block, weight);
  return weights;
}

/** A text encoder with all its layers. */
function setWhole(weights: Map<BlockName, number>, { layers }: Network, block: BlockName, weight: number): void {
  for (const each of [block, ...(layers.get(block) ?? [])]) weights.set(each, weight);
}

function blocksOf(words: readonly string[], network: Network): readonly BlockName[] {
  return words.flatMap((word) => {
    const blocks = blocksNamed(word, network);
    if (blocks === undefined) throw new Error(`Internal error: no block is named "${word}".`);
    return blocks;
  });
}
