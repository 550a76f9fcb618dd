// What a sweep proposes to keep, as it is written: as a `chop` block of a program, and as a command.
// A chop keeps text encoders that nobody names, so the proposal has to say when they go.

import type { Kept } from './sweep-effects.ts';

export interface Proposal extends Kept {
  /** The share that was asked for. */
  readonly wanted: number;
  /** Ready to be pasted into a program; `null` when all blocks are to be kept, so that there is nothing to chop. */
  readonly chop: string | null;
  /** What follows `lorac chop FILE`; `null` likewise. */
  readonly options: readonly string[] | null;
}

/** `label` is the LoRA's block in the program; `blocks` are those that it has, in the order of the network. */
export function proposalOf(
  kept: Kept,
  { wanted, blocks, label }: { readonly wanted: number; readonly blocks: readonly string[]; readonly label: string },
): Proposal {
  const keep = blocks.filter((block) => kept.keep.includes(block));
  if (keep.length === blocks.length) return { ...kept, wanted, chop: null, options: null };
  const dropsText = blocks.some((block) => block.startsWith('TE') && !keep.includes(block));
  const text = dropsText ? '  text_encoders = drop' : '';
  const from = wordFor(label, '.');
  return {
    ...kept,
    wanted,
    chop: `chop ${wordFor(label)}_kept { from = ${from}  keep = [${keep.join(', ')}]${text} }`,
    options: ['--keep', keep.join(','), ...(dropsText ? ['--text-encoders', 'drop'] : [])],
  };
}

/** A name that the language can read, since a LoRA from the command line is called as its file is. */
function wordFor(label: string, alsoAllowed = ''): string {
  const odd = new RegExp(`[^\\p{L}\\p{N}_${alsoAllowed}]+`, 'gu');
  return label.replaceAll(odd, '_').replace(/^(?=\d|$)/, '_');
}
