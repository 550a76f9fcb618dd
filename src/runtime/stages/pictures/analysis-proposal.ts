// What an ablation proposes to keep, as it is written: as a `chop` block of a program, and as a command.
// It names what stays or what goes, whichever is shorter.

import type { Kept } from './ablation-effects.ts';

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
  const from = wordFor(label, '.');
  const choice = shortest(
    wordsOf('keep', keep, blocks),
    wordsOf(
      'drop',
      blocks.filter((block) => !keep.includes(block)),
      blocks,
    ),
  );
  return {
    ...kept,
    wanted,
    chop: `chop ${wordFor(label)}_kept { from = ${from}  ${choice.program} }`,
    options: choice.options,
  };
}

/** A choice of blocks in the words of a program, and in those of the command. */
interface Words {
  readonly program: string;
  readonly options: readonly string[];
}

function wordsOf(verb: 'keep' | 'drop', named: readonly string[], blocks: readonly string[]): Words {
  // Text encoders that nobody names stay.
  const isSilent = (block: string) => verb === 'keep' && block.startsWith('TE') && !named.includes(block);
  const dropsText = blocks.some(isSilent);
  return {
    program: `${verb} = [${named.join(', ')}]${dropsText ? '  text_encoders = drop' : ''}`,
    options: [`--${verb}`, named.join(','), ...(dropsText ? ['--text-encoders', 'drop'] : [])],
  };
}

/** In names; what becomes of text encoders is two words more. */
function lengthOf({ options: [, named = '', ...encoders] }: Words): number {
  return named.split(',').length + encoders.length;
}

/** Of two that are equally short, the first. */
function shortest(first: Words, second: Words): Words {
  return lengthOf(second) < lengthOf(first) ? second : first;
}

/** A name that the language can read, since a LoRA from the command line is called as its file is. */
function wordFor(label: string, alsoAllowed = ''): string {
  const odd = new RegExp(`[^\\p{L}\\p{N}_${alsoAllowed}]+`, 'gu');
  return label.replaceAll(odd, '_').replace(/^(?=\d|$)/, '_');
}
