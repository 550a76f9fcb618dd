// What `lorac chop` is told about blocks, in any of the ways people write it, as one choice.

import { type BlockName, blocksNamed, type Network, parseMask, SDXL } from '../parser/blocks.ts';
import { nearest } from '../parser/diagnostics/suggest.ts';
import { MASK_PRESETS, SD_MASK_PRESETS } from '../parser/mask-presets.ts';
import { specWeights } from '../runtime/sdxl/block-spec.ts';
import type { BlockChoice } from '../runtime/sdxl/block-weights.ts';
import { UsageError } from './usage-error.ts';

/** As given on the command line. */
export interface WrittenChoice {
  readonly vector?: string | undefined;
  readonly keep?: string | undefined;
  readonly drop?: string | undefined;
  readonly weights?: string | undefined;
  readonly textEncoders?: string | undefined;
}

export interface Chosen {
  readonly choice: BlockChoice;
  readonly warnings: readonly string[];
}

/** What a file has. */
export interface FileBlocks {
  readonly network: Network;
  /** In the order of the network. */
  readonly present: readonly BlockName[];
}

/** `undefined` when nothing is said about blocks. */
export function readChoice(written: WrittenChoice, file: FileBlocks): Chosen | undefined {
  const { vector, keep, drop, weights } = written;
  const ways = [
    ['a vector', vector],
    ['--keep', keep],
    ['--drop', drop],
    ['--weights', weights],
  ].flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (ways.length > 1) throw new UsageError(`${ways.join(' and ')} both say which blocks stay.`, 'give one of them');
  const text = readTextEncoders(written.textEncoders);
  if (vector !== undefined) return readVector(vector, file, text);
  if (keep !== undefined) return chosen({ keep: readBlocks('--keep', keep, file.network) }, text);
  if (drop !== undefined) return chosen({ drop: readBlocks('--drop', drop, file.network) }, text);
  if (weights !== undefined) return chosen({ weights: readWeights(weights, file.network) }, text);
  // Nothing said of the other blocks means that they stay.
  return text === undefined ? undefined : chosen({ drop: [] }, text);
}

function chosen(choice: BlockChoice, text: number | undefined): Chosen {
  return { choice: { ...choice, ...(text !== undefined && { text_encoders: text }) }, warnings: [] };
}

function readTextEncoders(written: string | undefined): number | undefined {
  if (written === undefined) return undefined;
  const weight = { keep: 1, drop: 0 }[written.toLowerCase()] ?? readNumber(written);
  if (weight === undefined) {
    throw new UsageError(`--text-encoders needs keep, drop or a weight, and "${written}" is none of them.`);
  }
  return weight;
}

function readNumber(text: string): number | undefined {
  const [entry] = parseMask(text);
  return entry?.text === text.trim() ? entry.weight : undefined;
}

function readVector(vector: string, { network, present }: FileBlocks, text: number | undefined): Chosen {
  const bare = vector.trim().replace(/^[^,:%=]*:(?=%)/, '');
  if (bare.startsWith('%')) {
    const spec = specWeights(bare, present, network);
    if (!spec.ok) throw new UsageError(spec.problem);
    const encoders = present.filter((block) => network.layers.has(block));
    const outside = text === undefined ? {} : Object.fromEntries(encoders.map((block) => [block, text]));
    return { choice: { weights: { ...spec.weights, ...outside }, text_encoders: 'drop' }, warnings: [] };
  }
  const entries = parseMask(vector);
  const odd = entries.find(({ weight }) => weight === undefined);
  if (odd !== undefined) throw oddEntry(vector, odd.text, network);
  if (!network.masks.has(entries.length)) {
    const [short, middle, long] = [...network.masks.keys()];
    throw new UsageError(
      `The vector has ${entries.length} numbers, and vectors for ${network.title} have ${short}, ${middle} or ${long}.`,
      'every block has its number, whether the file has that block or not; without a vector, the blocks are listed',
    );
  }
  const first = entries[0]?.weight;
  const warnings =
    first === 1 || text !== undefined
      ? []
      : [
          `The first number, ${first}, is taken as the weight of all that lies outside the blocks (the text encoders), as ComfyUI does. chop_blocks takes it as a factor on the blocks instead.`,
        ];
  return { ...chosen({ mask: vector }, text), warnings };
}

function oddEntry(vector: string, entry: string, network: Network): UsageError {
  const words = vector.split(',').map((word) => word.trim());
  if (words.some((word) => blocksNamed(word, network) !== undefined)) {
    return new UsageError(
      `A vector has numbers, and "${entry}" is none.`,
      `blocks are named after --keep: --keep ${words.filter((word) => blocksNamed(word, network)).join(',')}`,
    );
  }
  if (/^[RUAB]$/i.test(entry)) {
    return new UsageError(
      `"${entry}" in a vector stands for a number that ComfyUI's node draws or has beside it.`,
      'write that number',
    );
  }
  if (/^-?[\d.]+(?:\s+-?[\d.]+)+$/.test(entry)) {
    return new UsageError(
      `"${entry}" weighs single tensors of a block, and that depends on how a file names them.`,
      'write one number for each block',
    );
  }
  const presets = [...(network === SDXL ? MASK_PRESETS : SD_MASK_PRESETS).keys()];
  const preset = entry === vector.trim() ? nearest(entry, presets) : undefined;
  const hint = preset === undefined ? `presets are ${presets.join(', ')}` : `write ${preset}`;
  return new UsageError(`"${entry}" is neither a number nor a preset.`, hint);
}

function readBlocks(option: string, written: string, network: Network): readonly string[] {
  const words = written.split(/[\s,]+/).filter((word) => word !== '');
  if (words.length === 0) throw new UsageError(`${option} names no block.`);
  for (const word of words) if (blocksNamed(word, network) === undefined) throw unknownBlock(word, network);
  return words;
}

function readWeights(written: string, network: Network): { readonly [block: string]: number } {
  const pairs = written
    .replaceAll(/\s*=\s*/g, '=')
    .split(/[\s,]+/)
    .filter((pair) => pair !== '');
  const weights = pairs.map((pair) => {
    const [word = '', number = ''] = pair.split('=');
    const weight = readNumber(number);
    if (!pair.includes('=') || weight === undefined) {
      throw new UsageError(
        `--weights needs BLOCK=NUMBER, and "${pair}" is not that.`,
        'for example: --weights OUT01=1,MID=0.5',
      );
    }
    if (blocksNamed(word, network) === undefined) throw unknownBlock(word, network);
    return [word, weight] as const;
  });
  const named = weights.map(([word]) => blocksNamed(word, network)?.join(' '));
  const twice = weights.find((_, index) => named.indexOf(named[index]) !== index);
  if (twice) throw new UsageError(`--weights has "${twice[0]}" twice.`);
  return Object.fromEntries(weights);
}

function unknownBlock(word: string, network: Network): UsageError {
  const meant = nearest(word.toUpperCase(), network.blocks);
  const list = blocksInWords(network);
  return new UsageError(
    `There is no block "${word}" in ${network.title}.`,
    meant === undefined ? list : `there is ${meant}; ${list}`,
  );
}

function blocksInWords({ groups, layers }: Network): string {
  const sections = ['IN', 'MID', 'OUT'].map((section) => `${groups[section]?.[0]} to ${groups[section]?.at(-1)}`);
  const encoders = [...layers.keys()];
  const all = encoders.length > 1 ? 'IN, MID, OUT and TE' : 'IN, MID and OUT';
  return `blocks are ${[...sections, ...encoders].join(', ')} and REST; ${all} stand for all of theirs, and ${encoders[0]}.0 is a layer of ${encoders[0]}`;
}
