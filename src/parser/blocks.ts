// The blocks of a network by name. A block has the same name whatever a file holds,
// and every way that people write it (OUT01, OUT1, output_blocks.1, up_blocks.0 …) leads to that name.
// Programs are about SDXL; Stable Diffusion 1 and 2 have other blocks, and files of them can be looked at and chopped.

import { maskPreset } from './mask-presets.ts';

const numbered = (prefix: string, count: number): BlockName[] =>
  Array.from({ length: count }, (_, index) => `${prefix}${String(index).padStart(2, '0')}` as BlockName);

/** `OUT01`, `TE1`, or a layer of a text encoder: `TE1.3`. */
export type BlockName = string & { readonly __brand: 'BlockName' };

export interface Network {
  readonly title: string;
  /** Every block, in the order of the network, then what lies outside. */
  readonly blocks: readonly BlockName[];
  /** The layers of each text encoder. What an encoder has beside them is its own. */
  readonly layers: ReadonlyMap<BlockName, readonly BlockName[]>;
  /** Words that stand for several blocks. */
  readonly groups: { readonly [group: string]: readonly BlockName[] };
  /** By how many numbers they have: layouts are not interchangeable, and only the length tells them apart. */
  readonly masks: ReadonlyMap<number, MaskLayout>;
}

/** The blocks that each number of a mask weighs. The first number is for what lies outside the blocks. */
export type MaskLayout = readonly (readonly BlockName[])[];

interface NetworkShape {
  readonly title: string;
  readonly inputs: number;
  readonly outputs: number;
  /** How many layers each text encoder has. */
  readonly encoders: { readonly [encoder: string]: number };
  /** The lengths of three masks, and what the first of them weighs. */
  readonly masks: { readonly attention: readonly string[]; readonly lengths: readonly [number, number, number] };
}

function network({ title, inputs: ins, outputs: outs, encoders, masks }: NetworkShape): Network {
  const [inputs, middles, outputs] = [numbered('IN', ins), numbered('MID', 3), numbered('OUT', outs)];
  const texts = Object.keys(encoders) as BlockName[];
  /** What lies outside the numbered blocks: text encoders, and time, label, in and out layers. */
  const outside = [...texts, 'REST' as BlockName];
  const each = (blocks: readonly BlockName[]): MaskLayout => blocks.map((block) => [block]);
  const [attentionOnly, middleAsOne, allBlocks] = masks.lengths;
  return {
    title,
    blocks: [...inputs, ...middles, ...outputs, ...outside],
    layers: new Map(texts.map((text) => [text, layersOf(text, encoders[text] ?? 0)])),
    groups: { IN: inputs, MID: middles, OUT: outputs, TE: texts },
    masks: new Map<number, MaskLayout>([
      /** LoRAs without convolutions, as ComfyUI's block-weight loader counts them: only blocks with attention. */
      [attentionOnly, [outside, ...each(masks.attention as BlockName[])]],
      /** sd-scripts' merge tools: IN00 is counted, and the middle is one. */
      [middleAsOne, [outside, ...each(inputs), middles, ...each(outputs)]],
      /** chop_blocks and ComfyUI's loader on LoRAs with convolutions: IN00 is not counted. */
      [allBlocks, [outside, ...each(inputs.slice(1)), ...each(middles), ...each(outputs)]],
    ]),
  };
}

function layersOf(encoder: string, count: number): readonly BlockName[] {
  return Array.from({ length: count }, (_, index) => `${encoder}.${index}` as BlockName);
}

export const SDXL: Network = network({
  title: 'SDXL',
  inputs: 9,
  outputs: 9,
  encoders: { TE1: 12, TE2: 32 },
  masks: {
    attention: ['IN04', 'IN05', 'IN07', 'IN08', 'MID01', 'OUT00', 'OUT01', 'OUT02', 'OUT03', 'OUT04', 'OUT05'],
    lengths: [12, 20, 21],
  },
});

/** Versions 1 and 2 differ in widths and in their text encoder alone, of 12 and of 23 layers. */
export const STABLE_DIFFUSION: Network = network({
  title: 'Stable Diffusion 1 and 2',
  inputs: 12,
  outputs: 12,
  encoders: { TE: 24 },
  masks: {
    attention: [
      ...['IN01', 'IN02', 'IN04', 'IN05', 'IN07', 'IN08', 'MID01'],
      ...['OUT03', 'OUT04', 'OUT05', 'OUT06', 'OUT07', 'OUT08', 'OUT09', 'OUT10', 'OUT11'],
    ],
    lengths: [17, 26, 27],
  },
});

/** `INP01`, `OUT1`, `input_blocks.1`, `middle_block_0`: section word, number. */
const sectionWords: readonly (readonly [RegExp, 'IN' | 'MID' | 'OUT'])[] = [
  [/^(?:IN|INP|INPUT|INPUT_BLOCKS?)[._]?(\d{1,2})$/, 'IN'],
  [/^(?:M|MID|MIDDLE|MIDDLE_BLOCKS?)[._]?(\d{1,2})$/, 'MID'],
  [/^(?:OUT|OUTPUT|OUTPUT_BLOCKS?)[._]?(\d{1,2})$/, 'OUT'],
];

const groupWords: { readonly [word: string]: 'IN' | 'MID' | 'OUT' | 'TE' } = {
  INP: 'IN',
  INPUT_BLOCKS: 'IN',
  MIDDLE: 'MID',
  MIDDLE_BLOCK: 'MID',
  MID_BLOCK: 'MID',
  OUTPUT_BLOCKS: 'OUT',
  TEXT_ENCODERS: 'TE',
};

const encoderWords: { readonly [word: string]: number } = { TEXT_ENCODER: 0, TEXT_ENCODER_1: 0, TEXT_ENCODER_2: 1 };

/** The blocks that a word stands for, in the order of the network; `undefined` when it stands for none. */
export function blocksNamed(
  word: string,
  { blocks, layers, groups }: Network = SDXL,
): readonly BlockName[] | undefined {
  const upper = word.toUpperCase();
  const group = Object.hasOwn(groupWords, upper) ? groupWords[upper] : upper;
  if (group !== undefined && Object.hasOwn(groups, group)) return groups[group];
  const encoder = Object.hasOwn(encoderWords, upper) ? [...layers.keys()][encoderWords[upper] ?? 0] : undefined;
  if (encoder !== undefined) return [encoder];
  const exact = blocks.find((block) => block === upper);
  if (exact !== undefined) return [exact];
  const [, owner, index] = /^([A-Z0-9]+)\.(\d{1,2})$/.exec(upper) ?? [];
  const layer = layers.get(owner as BlockName)?.[Number(index)];
  if (layer !== undefined) return [layer];
  for (const [pattern, section] of sectionWords) {
    const index = pattern.exec(upper)?.[1];
    const block = index === undefined ? undefined : groups[section]?.[Number(index)];
    if (block !== undefined) return [block];
  }
  return upper.includes('*') ? blocksLike(upper, blocks, [...layers.values()].flat()) : undefined;
}

/**
 * `OUT0*`: every block whose name fits, where `*` stands for any letters and digits. With a dot, `TE2.1*`, the pattern is
 * one for layers, so that `*1` goes on to mean blocks alone.
 */
function blocksLike(
  pattern: string,
  blocks: readonly BlockName[],
  layers: readonly BlockName[],
): readonly BlockName[] | undefined {
  if (!/^[A-Z0-9*]{1,20}(?:\.[0-9*]{1,20})?$/.test(pattern)) return undefined;
  const shape = new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll(/\*+/g, '[A-Z0-9]*')}$`);
  const found = (pattern.includes('.') ? layers : blocks).filter((block) => shape.test(block));
  return found.length > 0 ? found : undefined;
}

/**
 * Whether a word is a pattern of layers' names as LoRA files have them, such as `*_attn2_to_k` or `*attn*`. What begins like
 * a block and is none (`out9*`) is a slip.
 */
export function isLayerPattern(word: string): boolean {
  if (!/^[a-z0-9_*?]{1,200}$/.test(word) || !/[_*?]/.test(word) || blocksNamed(word) !== undefined) return false;
  const letters = word.match(/[a-z]+/g) ?? [];
  return word.includes('_') || letters.some((run) => !/^(?:in?|inp|mi?d?|ou?t?|te?|re?s?t?)$/.test(run));
}

export interface MaskEntry {
  readonly text: string;
  /** Where the entry begins in the mask. */
  readonly offset: number;
  /** `undefined`: not a number, or one beyond all numbers (`1e400`). */
  readonly weight: number | undefined;
}

/**
 * The entries of `1,0,0.5,…`, of `LABEL:1,0,0.5,…`, or of a preset by its name. Lengths and gaps are judged by the
 * caller. All entries of a preset stand where its name does.
 */
export function parseMask(mask: string): readonly MaskEntry[] {
  const preset = maskPreset(mask);
  if (preset !== undefined) return parseMask(preset).map((entry) => ({ ...entry, offset: 0 }));
  const entries: MaskEntry[] = [];
  let offset = /^[^,:]*:/.exec(mask)?.[0].length ?? 0;
  for (const part of mask.slice(offset).split(',')) {
    const text = part.trim();
    const isNumber = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(text) && Number.isFinite(Number(text));
    const lead = part.length - part.trimStart().length;
    entries.push({ text, offset: offset + lead, weight: isNumber ? Number(text) : undefined });
    offset += part.length + 1;
  }
  return entries;
}
