// Which blocks a LoRA file has, told as chop_blocks tells it, so that whoever knows that tool reads on.
// "Layers" are tensors, as there. A block's number is its place in a vector of 21, whatever else the file has.

import { BLOCKS, type BlockName, MASKS } from '../../parser/blocks.ts';
import type { LoraModules } from './lora.ts';

export interface BlockLayout {
  /** In the order of the network. */
  readonly blocks: readonly { readonly block: BlockName; readonly tensors: number }[];
  /** Tensors of the text encoders, and of all else that is in no numbered block. */
  readonly outside: number;
}

export function blockLayout({ modules, strangers }: LoraModules): BlockLayout {
  const counts = new Map<BlockName, number>();
  let outside = strangers.length;
  for (const { block, tensors } of modules) {
    if (block === undefined || !/^(?:IN|MID|OUT)/.test(block)) outside += tensors.size;
    else counts.set(block, (counts.get(block) ?? 0) + tensors.size);
  }
  const blocks = BLOCKS.flatMap((block) => {
    const tensors = counts.get(block);
    return tensors === undefined ? [] : [{ block, tensors }];
  });
  return { blocks, outside };
}

/** Every number of a vector of 21 but the first has one block. */
const placed = MASKS.get(21)?.flatMap((blocks) => (blocks.length === 1 ? blocks : [])) ?? [];

export function layoutLines({ blocks, outside }: BlockLayout): readonly string[] {
  const rows = blocks.map(({ block, tensors }) => {
    const place = placed.includes(block) ? String(placed.indexOf(block)).padStart(2) : ' -';
    return `INFO:   [${place}] ${ldmName(block).padStart(15)} layers=${tensors}`;
  });
  const names = placed.map((block) => block.replace(/^IN/, 'INP'));
  return [
    'INFO: Blocks layout:',
    ...rows,
    `INFO: Vector string : "${['1', ...names].join(',')}"`,
    `INFO: Pass through layers: ${outside}`,
  ];
}

/** `output_blocks.1` for OUT01. */
function ldmName(block: BlockName): string {
  const section = block.replace(/\d+$/, '');
  const word = { IN: 'input_blocks', MID: 'middle_block', OUT: 'output_blocks' }[section] ?? section;
  return `${word}.${Number(block.slice(section.length))}`;
}
