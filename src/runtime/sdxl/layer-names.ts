// The names of all layers and norms of SDXL that can be trained, and the patterns over them. A smaller base has some of
// these names and no others, so what fits none of them fits none of any base.

import { sdxlTargets } from './standard.ts';

const SHOWN = 3;

let known: readonly string[] | undefined;

/** By kohya's names: the 1052 layers of preset `full`, and the 255 norms between those of the UNet. */
export function layerNames(): readonly string[] {
  known ??= [...sdxlTargets().keys()].flatMap((name) => [name, ...normsBeside(name)]);
  return known;
}

/** Each resnet, attention and transformer block has some, which are named after one layer of it. */
function normsBeside(layer: string): readonly string[] {
  const [, resnet] = /^(lora_unet_.*)_in_layers_2$/.exec(layer) ?? [];
  if (resnet !== undefined) return [`${resnet}_in_layers_0`, `${resnet}_out_layers_0`];
  const [, attention] = /^(lora_unet_.*)_proj_in$/.exec(layer) ?? [];
  if (attention !== undefined) return [`${attention}_norm`];
  const [, block] = /^(lora_unet_.*_transformer_blocks_\d+)_attn1_to_q$/.exec(layer) ?? [];
  return block === undefined ? [] : [1, 2, 3].map((place) => `${block}_norm${place}`);
}

/** As Python's fnmatch reads patterns: `*`, `?`, `[seq]` and `[!seq]`. */
export function fitsSome(pattern: string): boolean {
  const source = pattern.replaceAll(/\[!?\]?[^\]]*\]|[\s\S]/g, (piece) => {
    if (piece === '*') return '.*';
    if (piece === '?') return '.';
    if (piece.length === 1) return piece.replace(/[\\^$.*+?()[\]{}|]/, String.raw`\$&`);
    const inside = piece.slice(1, -1).replaceAll('\\', String.raw`\\`);
    return inside.startsWith('!') ? `[^${inside.slice(1)}]` : `[${inside.replace(/^\^/, String.raw`\^`)}]`;
  });
  let shape: RegExp;
  try {
    shape = new RegExp(`^${source}$`, 's');
  } catch {
    // A class that JavaScript does not read: the worker judges it.
    return true;
  }
  return layerNames().some((name) => shape.test(name));
}

/** Names that have the most of a pattern's letters in few long pieces, the nearest first. */
export function namesLike(pattern: string): readonly string[] {
  const letters = pattern.replaceAll(/[*?]/g, '');
  const all = layerNames().map((name) => ({ name, likeness: likeness(letters, name) }));
  const nearer = (a: (typeof all)[number], b: (typeof all)[number]) =>
    b.likeness - a.likeness || a.name.length - b.name.length || (a.name < b.name ? -1 : 1);
  return all
    .toSorted(nearer)
    .slice(0, SHOWN)
    .map(({ name }) => name);
}

function likeness(one: string, other: string): number {
  let [at, there, length] = [0, 0, 0];
  for (let i = 0; i < one.length; i += 1) {
    for (let j = 0; j < other.length; j += 1) {
      let run = 0;
      while (i + run < one.length && one[i + run] === other[j + run]) run += 1;
      if (run > length) [at, there, length] = [i, j, run];
    }
  }
  if (length === 0) return 0;
  const before = likeness(one.slice(0, at), other.slice(0, there));
  return length ** 2 + before + likeness(one.slice(at + length), other.slice(there + length));
}
