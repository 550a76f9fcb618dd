// What the worker saw in the pixels of an image, and which images look alike. Known by the image's bytes, so that an
// image is looked at once.

import type { Digest } from '../cache/digest.ts';
import { isRecord } from '../cache/fingerprint.ts';
import type { Json } from '../graph/json.ts';

export type PixelLook =
  | {
      /** The share of pixels that are not fully opaque. */
      readonly transparent: number;
      /** 256 bits in hexadecimal, nearly equal for pictures that look alike. */
      readonly hash: string;
      /** All of one color. */
      readonly plain: boolean;
      /** Black all over, and transparent where it is not: as a mask it leaves nothing. Looks of before do not tell. */
      readonly dark?: boolean;
    }
  /** Why the file cannot be read whole. */
  | { readonly problem: string };

/** Raise it when the worker should look again. */
const LOOK_REVISION = 1;

/** What a look is kept under. */
export function lookKey(image: Digest): string {
  return `${LOOK_REVISION}:${image}`;
}

/** A look that comes from outside, or `undefined` when it is none. */
export function parseLook(value: unknown): (PixelLook & Json) | undefined {
  if (!isRecord(value)) return undefined;
  const { problem, transparent, hash, plain, dark } = value;
  if (typeof problem === 'string') return { problem };
  if (typeof transparent !== 'number' || typeof hash !== 'string' || typeof plain !== 'boolean') return undefined;
  if (!/^[0-9a-f]{64}$/.test(hash)) return undefined;
  return typeof dark === 'boolean' ? { transparent, hash, plain, dark } : { transparent, hash, plain };
}

/** Two pictures look alike when so few of the edges of either are missing in the other. */
const MOST_DIFFERENT = 0.15;
/** Pictures with fewer edges than this have nothing to be told apart by. */
const LEAST_EDGES = 12;

/** The pairs of pictures that look alike, by their place in the list. */
export function alikePairs(hashes: readonly string[]): readonly (readonly [number, number])[] {
  const words = hashes.map((hash) => Uint32Array.from(hash.match(/.{8}/g) ?? [], (word) => Number.parseInt(word, 16)));
  const pairs: (readonly [number, number])[] = [];
  for (const [first, a] of words.entries()) {
    for (let second = first + 1; second < words.length; second += 1) {
      if (areAlike(a, words[second] as Uint32Array)) pairs.push([first, second]);
    }
  }
  return pairs;
}

function areAlike(a: Uint32Array, b: Uint32Array): boolean {
  let different = 0;
  let either = 0;
  for (let at = 0; at < a.length; at += 1) {
    const [one, other] = [a[at] as number, b[at] as number];
    different += bits(one ^ other);
    either += bits(one | other);
  }
  return either >= LEAST_EDGES && different <= MOST_DIFFERENT * either;
}

/** How many bits of 32 are set. */
function bits(word: number): number {
  let left = word - ((word >>> 1) & 0x55555555);
  left = (left & 0x33333333) + ((left >>> 2) & 0x33333333);
  return (((left + (left >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}
