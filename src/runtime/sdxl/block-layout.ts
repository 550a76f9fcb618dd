// Which blocks a LoRA file has, told as chop_blocks tells it, so that whoever knows that tool reads on.
// "Layers" are tensors, as there. A block's number is its place in a vector, whatever else the file has:
// one of 21 for SDXL, of 27 for Stable Diffusion 1 and 2.

import type { BlockName, Network } from '../../parser/blocks.ts';
import type { LoraModules } from './lora.ts';

export interface BlockLayout {
  readonly network: Network;
  /** In the order of the network. */
  readonly blocks: readonly { readonly block: BlockName; readonly tensors: number }[];
  /** Tensors of the text encoders, and of all else that is in no numbered block. */
  readonly outside: number;
}

export function blockLayout({ network, modules, strangers }: LoraModules): BlockLayout {
  const counts = new Map<BlockName, number>();
  let outside = strangers.length;
  for (const { block, tensors } of modules) {
    if (block === undefined || !/^(?:IN|MID|OUT)/.test(block)) outside += tensors.size;
    else counts.set(block, (counts.get(block) ?? 0) + tensors.size);
  }
  const blocks = network.blocks.flatMap((block) => {
    const tensors = counts.get(block);
    return tensors === undefined ? [] : [{ block, tensors }];
  });
  return { network, blocks, outside };
}

export function layoutLines({ network, blocks, outside }: BlockLayout): readonly string[] {
  const placed = longestVector(network);
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

/** Every number of the longest vector but the first has one block. */
function longestVector({ masks }: Network): readonly BlockName[] {
  const layout = masks.get(Math.max(...masks.keys())) ?? [];
  return layout.slice(1).flat();
}

/** `output_blocks.1` for OUT01. */
function ldmName(block: BlockName): string {
  const section = block.replace(/\d+$/, '');
  const word = { IN: 'input_blocks', MID: 'middle_block', OUT: 'output_blocks' }[section] ?? section;
  return `${word}.${Number(block.slice(section.length))}`;
}
