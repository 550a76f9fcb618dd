// Which checkpoint each LoRA of a program was trained on. A train block says so, a lora block may; what is made from a
// LoRA has its base, and a merge that of the first of its parts, by name, that has one.

import { type BlockOf, type CheckedBlock, nameOfReference, type Reference } from '../model.ts';

export type LoraBlock = BlockOf<'train'> | BlockOf<'lora'> | BlockOf<'resize'> | BlockOf<'chop'> | BlockOf<'merge'>;

export type Base =
  /** The name of a checkpoint block. */
  | { readonly kind: 'known'; readonly checkpoint: string }
  /** The block that would have to say it: a lora, or the run that wrote one. */
  | { readonly kind: 'unsaid'; readonly lora: BlockOf<'lora'> | BlockOf<'run'> }
  /** Something on the way is wrong, which has been complained about. */
  | { readonly kind: 'unknown' };

export type Bases = ReadonlyMap<string, Base>;

/** By the names of LoRA blocks. `ordered`: every block after those that it is made from. */
export function basesOf(ordered: readonly CheckedBlock[]): Bases {
  const bases = new Map<string, Base>();
  for (const block of ordered) {
    if (isLora(block)) bases.set(block.name, baseOfBlock(block, bases));
    if (block.kind === 'run') bases.set(block.name, baseOfRun(block, bases));
  }
  return bases;
}

export function baseOf(bases: Bases, lora: Reference): Base {
  return bases.get(lora.block) ?? { kind: 'unknown' };
}

/** The base of several LoRAs: the first that is known, else whatever is in the way. Of none: unknown. */
export function firstBase(bases: Bases, loras: readonly Reference[]): Base {
  const found = loras.map((lora) => baseOf(bases, lora));
  const first = (kind: Base['kind']) => found.find((base) => base.kind === kind);
  return first('known') ?? first('unknown') ?? first('unsaid') ?? { kind: 'unknown' };
}

/** What parts of a sum are sorted by, so that their order in the program means nothing. */
export function byBlockName<R extends Reference>(references: readonly R[]): readonly R[] {
  return references.toSorted((a, b) => {
    const [one, other] = [nameOfReference(a), nameOfReference(b)];
    return one < other ? -1 : one > other ? 1 : 0;
  });
}

export function isLora(block: CheckedBlock): block is LoraBlock {
  const { kind } = block;
  return kind === 'train' || kind === 'lora' || kind === 'resize' || kind === 'chop' || kind === 'merge';
}

/** That of the LoRAs that it reads, unless it says another. */
function baseOfRun(block: BlockOf<'run'>, bases: Bases): Base {
  const { base, inputs = {} } = block.attributes;
  if (base !== undefined) return { kind: 'known', checkpoint: base.block };
  const read = Object.values(inputs).flatMap((input) => ('text' in input ? [] : [input]));
  const found = firstBase(
    bases,
    read.filter((input) => bases.has(input.block)),
  );
  return found.kind === 'known' ? found : { kind: 'unsaid', lora: block };
}

function baseOfBlock(block: LoraBlock, bases: Bases): Base {
  switch (block.kind) {
    case 'train':
      return { kind: 'known', checkpoint: block.attributes.base.block };
    case 'lora': {
      const { base } = block.attributes;
      return base === undefined ? { kind: 'unsaid', lora: block } : { kind: 'known', checkpoint: base.block };
    }
    case 'merge':
      return firstBase(bases, byBlockName(block.attributes.from));
    default:
      return baseOf(bases, block.attributes.from);
  }
}
