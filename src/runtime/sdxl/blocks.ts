// From the name of a LoRA's module to the block that it belongs to.
// A block has the same name whatever else a file holds, and however the file spells its modules.

import { BLOCKS, type BlockName } from '../../parser/blocks.ts';
import { readModuleName } from './names.ts';

const byName: ReadonlyMap<string, BlockName> = new Map(BLOCKS.map((block) => [block, block]));

/** `undefined` where the name belongs to no part of SDXL that has a name. */
export function blockOf(module: string): BlockName | undefined {
  const place = placeOf(module);
  return byName.get(place === 'TE' ? 'TE1' : (place ?? ''));
}

/** Like `blockOf`, also for what only Stable Diffusion 1 and 2 have: `IN10`, and `TE` for their one text encoder. */
export function placeOf(module: string): string | undefined {
  const name = readModuleName(module);
  if (name === undefined) return undefined;
  if (name.component !== 'unet') return name.component.toUpperCase();
  const [, section = '', index = ''] = /^(input_blocks|middle_block|output_blocks)_(\d+)(?:_|$)/.exec(name.path) ?? [];
  const word = { input_blocks: 'IN', middle_block: 'MID', output_blocks: 'OUT' }[section];
  return word === undefined ? 'REST' : `${word}${index.padStart(2, '0')}`;
}
