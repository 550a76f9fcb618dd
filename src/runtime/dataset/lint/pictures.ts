// What headers and pixels of images tell: forms that do not survive on the way into training, and images that are there twice.

import type { Digest } from '../../cache/digest.ts';
import type { AbsolutePath } from '../../graph/graph.ts';
import type { Trait } from '../image-problem.ts';
import { alikePairs, type PixelLook } from '../pixel-look.ts';
import { type Finding, type FindingCode, finding } from './findings.ts';
import type { DatasetSettings, LintedImage } from './lint.ts';

export function pictureFindings(
  images: readonly LintedImage[],
  looks: ReadonlyMap<Digest, PixelLook>,
  settings: Pick<DatasetSettings, 'asStored' | 'alphaIsMeant'>,
): readonly Finding[] {
  return [
    ...images.flatMap((image) => formFindings(image, looks.get(image.digest), settings)),
    ...images.flatMap((image) => maskFindings(image, looks)),
    ...duplicates(images),
    ...nearDuplicates(images, looks),
  ];
}

const traitFindings: { readonly [trait in Exclude<Trait, 'alpha'>]: readonly [FindingCode, string] } = {
  animated: ['animated', 'The image has several frames, and only the first is used.'],
  cmyk: ['cmyk', 'The colors of the image are CMYK, for printing.'],
  deep: ['deep', 'The image has more than 8 bits per channel.'],
};

function formFindings(
  { path, orientation, traits }: LintedImage,
  look: PixelLook | undefined,
  { asStored, alphaIsMeant }: Pick<DatasetSettings, 'asStored' | 'alphaIsMeant'>,
): readonly Finding[] {
  const found: Finding[] = [];
  const add = (code: FindingCode, message: string) => found.push(finding(code, [path], message));
  if (orientation !== 1 && asStored) {
    add('as-stored', `EXIF says how the image is to be turned to stand upright (${orientation}), and is ignored.`);
  } else if (orientation !== 1)
    add('turned', `EXIF says how the image is to be turned to stand upright (${orientation}).`);
  for (const trait of traits) {
    if (trait !== 'alpha') add(...traitFindings[trait]);
    else if (look === undefined && !alphaIsMeant)
      add('transparent', 'The image may have transparent pixels: it has an alpha channel.');
  }
  if (look === undefined) return found;
  if ('problem' in look) {
    add('unreadable', `The pixels cannot be read: ${look.problem}.`);
    return found;
  }
  if (look.transparent > 0 && !alphaIsMeant)
    add('transparent', `${percent(look.transparent)} of the pixels are transparent.`);
  if (look.plain) add('plain', 'The image is of one color.');
  return found;
}

function maskFindings({ mask }: LintedImage, looks: ReadonlyMap<Digest, PixelLook>): readonly Finding[] {
  const look = mask && looks.get(mask.digest);
  if (mask === undefined || look === undefined) return [];
  if ('problem' in look) return [finding('bad-mask', [mask.path], `The pixels cannot be read: ${look.problem}.`)];
  if (!look.dark) return [];
  return [finding('black-mask', [mask.path], 'The mask is black all over, so nothing of its image is learned.')];
}

function duplicates(images: readonly LintedImage[]): readonly Finding[] {
  const groups = Map.groupBy(images, ({ digest }) => digest);
  return [...groups.values()]
    .filter((group) => group.length > 1)
    .map((group) => {
      const files = group.map(({ path }) => path);
      return finding('duplicate', files, `The same image is there ${files.length} times.`);
    });
}

function nearDuplicates(images: readonly LintedImage[], looks: ReadonlyMap<Digest, PixelLook>): readonly Finding[] {
  // Of equal images, the first stands for all.
  const firsts = [...Map.groupBy(images, ({ digest }) => digest).values()].flatMap((group) => group.slice(0, 1));
  const hashed = firsts.flatMap(({ path, digest }) => {
    const look = looks.get(digest);
    return look === undefined || 'problem' in look || look.plain ? [] : [{ path, hash: look.hash }];
  });
  const pairs = alikePairs(hashed.map(({ hash }) => hash));
  return together(pairs).map((places) => {
    const files = places.map((place) => (hashed[place] as { path: AbsolutePath }).path);
    return finding('near-duplicate', files, `${files.length} images look alike.`);
  });
}

/** Pairs that share a member belong to one group. Groups and members in order. */
function together(pairs: readonly (readonly [number, number])[]): readonly (readonly number[])[] {
  const parent = new Map<number, number>();
  const root = (place: number): number => {
    const above = parent.get(place) ?? place;
    return above === place ? place : root(above);
  };
  for (const [first, second] of pairs) {
    const [a, b] = [root(first), root(second)].sort((one, other) => one - other) as [number, number];
    parent.set(first, parent.get(first) ?? first);
    parent.set(second, parent.get(second) ?? second);
    parent.set(b, a);
  }
  const groups = Map.groupBy(
    [...parent.keys()].sort((one, other) => one - other),
    root,
  );
  return [...groups.values()];
}

function percent(share: number): string {
  return share < 0.01 ? 'Less than 1 %' : `${Math.round(100 * share)} %`;
}
