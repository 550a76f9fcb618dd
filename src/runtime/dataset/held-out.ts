// Which images of a dataset are held out of a training, to measure with. Their content decides, so that names, order and
// other images' places mean nothing; and equal images stay together, so that none is learned from as well.

import { digestOf } from '../cache/digest.ts';

export interface Held {
  readonly learned: readonly number[];
  readonly heldOut: readonly number[];
}

/**
 * Places in the list, in order. At least one image is held out and one is not; with fewer than two different ones
 * that is not possible: `undefined`.
 */
export function holdOut(images: readonly { readonly digest: string }[], share: number): Held | undefined {
  const different = [...new Set(images.map(({ digest }) => digest))];
  if (different.length < 2) return undefined;
  const drawn = different.map((digest) => ({ digest, lot: digestOf(`held out\n${digest}`) }));
  drawn.sort((one, other) => (one.lot < other.lot ? -1 : 1));
  const wanted = Math.round(share * different.length);
  const count = Math.min(Math.max(wanted, 1), different.length - 1);
  const chosen = new Set(drawn.slice(0, count).map(({ digest }) => digest));
  const places = images.map((_, place) => place);
  const isHeldOut = (place: number) => chosen.has(images[place]?.digest ?? '');
  return { learned: places.filter((place) => !isHeldOut(place)), heldOut: places.filter(isHeldOut) };
}
