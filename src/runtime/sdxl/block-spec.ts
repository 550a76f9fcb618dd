// The short way of ComfyUI's block-weight loader to write weights: `%default=0,base=1,out=1,out2=0.5,in3-5=0`.
//
//   default  what is not named otherwise: 1 unless it is written     in, mid, out  all blocks of a section
//   base     all that lies outside the blocks: as default            out2, in3-5   by place, from 1
//
// A place counts the blocks that the file has, as that loader counts them: out2 of a whole LyCORIS file is OUT01.
// A place goes before its section, and a section before the default, wherever they stand.

import { type BlockName, type Network, SDXL } from '../../parser/blocks.ts';

export type SpecWeights =
  | { readonly ok: true; readonly weights: { readonly [block: string]: number } }
  /** What is wrong, as a sentence. */
  | { readonly ok: false; readonly problem: string };

/** The weight of each block that the file has. */
export function specWeights(
  spec: string,
  present: readonly BlockName[],
  { blocks, groups }: Network = SDXL,
): SpecWeights {
  const items: Item[] = [];
  for (const text of spec.replace(/^%/, '').split(',')) {
    const item = parseItem(text.trim());
    if (item === undefined) {
      return {
        ok: false,
        problem: `"${text.trim()}" is no item of a % vector, which are default, base, in, mid, out, in2 or out3-5, each with = and a number.`,
      };
    }
    items.push(item);
  }
  const named = (word: string): number | undefined =>
    items.findLast((item) => item.word === word && !item.range)?.weight;
  const rest = named('default') ?? 1;
  const weightOf = (block: BlockName): number => {
    const section = sections.find((each) => groups[each.toUpperCase()]?.includes(block));
    if (section === undefined) return named('base') ?? rest;
    const place = 1 + present.filter((each) => groups[section.toUpperCase()]?.includes(each)).indexOf(block);
    const placed = items.findLast(
      ({ word, range }) => word === section && range && range[0] <= place && place <= range[1],
    );
    return placed?.weight ?? named(section) ?? rest;
  };
  const here = blocks.filter((block) => present.includes(block));
  return { ok: true, weights: Object.fromEntries(here.map((block) => [block, weightOf(block)])) };
}

const sections = ['in', 'mid', 'out'] as const;

interface Item {
  readonly word: string;
  /** Places from 1, both ends included. */
  readonly range: readonly [number, number] | undefined;
  readonly weight: number;
}

function parseItem(text: string): Item | undefined {
  const [, word, from, to, number] =
    /^(default|base|in|mid|out)(?:(\d+)(?:-(\d+))?)?\s*=\s*(-?\d+(?:\.\d+)?)$/i.exec(text) ?? [];
  if (word === undefined || number === undefined) return undefined;
  const range = from === undefined ? undefined : ([Number(from), Number(to ?? from)] as const);
  if (range && /^(?:default|base)$/i.test(word)) return undefined;
  return { word: word.toLowerCase(), range, weight: Number(number) };
}
