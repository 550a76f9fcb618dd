// The blocks of an SDXL network by name. A block has the same name whatever a file holds,
// and every way that people write it (OUT01, OUT1, output_blocks.1, up_blocks.0 …) leads to that name.

import { maskPreset } from './mask-presets.ts';

const numbered = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${prefix}${String(index).padStart(2, '0')}`);

export type BlockName = string & { readonly __brand: 'BlockName' };

const inputs = numbered('IN', 9) as BlockName[];
const middles = numbered('MID', 3) as BlockName[];
const outputs = numbered('OUT', 9) as BlockName[];
/** What lies outside the numbered blocks: both text encoders, and time, label, in and out layers. */
const outside = ['TE1', 'TE2', 'REST'] as BlockName[];

/** Every block, in the order of the network, then what lies outside. */
export const BLOCKS: readonly BlockName[] = [...inputs, ...middles, ...outputs, ...outside];

/** Words that stand for several blocks. */
export const BLOCK_GROUPS: { readonly [group: string]: readonly BlockName[] } = {
  IN: inputs,
  MID: middles,
  OUT: outputs,
  TE: outside.slice(0, 2),
};

/** `INP01`, `OUT1`, `input_blocks.1`, `middle_block_0`: section word, number. */
const sectionWords: readonly (readonly [RegExp, readonly BlockName[]])[] = [
  [/^(?:IN|INP|INPUT|INPUT_BLOCKS?)[._]?(\d{1,2})$/, inputs],
  [/^(?:M|MID|MIDDLE|MIDDLE_BLOCKS?)[._]?(\d{1,2})$/, middles],
  [/^(?:OUT|OUTPUT|OUTPUT_BLOCKS?)[._]?(\d{1,2})$/, outputs],
];

const groupWords: { readonly [word: string]: readonly BlockName[] } = {
  ...BLOCK_GROUPS,
  INP: inputs,
  INPUT_BLOCKS: inputs,
  MIDDLE: middles,
  MIDDLE_BLOCK: middles,
  MID_BLOCK: middles,
  OUTPUT_BLOCKS: outputs,
  TEXT_ENCODERS: outside.slice(0, 2),
  TEXT_ENCODER: outside.slice(0, 1),
  TEXT_ENCODER_1: outside.slice(0, 1),
  TEXT_ENCODER_2: outside.slice(1, 2),
};

/** The blocks that a word stands for, in the order of the network; `undefined` when it stands for none. */
export function blocksNamed(word: string): readonly BlockName[] | undefined {
  const upper = word.toUpperCase();
  if (Object.hasOwn(groupWords, upper)) return groupWords[upper];
  const exact = BLOCKS.find((block) => block === upper);
  if (exact !== undefined) return [exact];
  for (const [pattern, blocks] of sectionWords) {
    const index = pattern.exec(upper)?.[1];
    if (index !== undefined) {
      const block = blocks[Number(index)];
      return block === undefined ? undefined : [block];
    }
  }
  return upper.includes('*') ? blocksLike(upper) : undefined;
}

/** `OUT0*`: every block whose name fits, where `*` stands for any letters and digits. */
function blocksLike(pattern: string): readonly BlockName[] | undefined {
  if (!/^[A-Z0-9*]{1,20}$/.test(pattern)) return undefined;
  const shape = new RegExp(`^${pattern.replaceAll(/\*+/g, '.*')}$`);
  const found = BLOCKS.filter((block) => shape.test(block));
  return found.length > 0 ? found : undefined;
}

/** The blocks that each number of a mask weighs. The first number is for what lies outside the blocks. */
export type MaskLayout = readonly (readonly BlockName[])[];

const one = (word: string): readonly BlockName[] => blocksNamed(word) ?? [];

/** Masks by how many numbers they have. The layouts are not interchangeable; only the length tells them apart. */
export const MASKS: ReadonlyMap<number, MaskLayout> = new Map<number, MaskLayout>([
  /** LoRAs without convolutions, as ComfyUI's block-weight loader counts them: only blocks with attention. */
  [
    12,
    [outside, one('IN04'), one('IN05'), one('IN07'), one('IN08'), one('MID01'), ...outputs.slice(0, 6).map((b) => [b])],
  ],
  /** sd-scripts' merge tools: IN00 is counted, and the middle is one. */
  [20, [outside, ...inputs.map((block) => [block]), middles, ...outputs.map((block) => [block])]],
  /** chop_blocks and ComfyUI's loader on LoRAs with convolutions: IN00 is not counted. */
  [21, [outside, ...inputs.slice(1).map((block) => [block]), ...middles.map((b) => [b]), ...outputs.map((b) => [b])]],
]);

export interface MaskEntry {
  readonly text: string;
  /** Where the entry begins in the mask. */
  readonly offset: number;
  /** `undefined`: not a number. */
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
    const isNumber = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(text);
    const lead = part.length - part.trimStart().length;
    entries.push({ text, offset: offset + lead, weight: isNumber ? Number(text) : undefined });
    offset += part.length + 1;
  }
  return entries;
}
