// What captions tell: words that are there only once, which are often misspelt.

import { nearest } from '../../../parser/suggest.ts';
import type { AbsolutePath } from '../../graph/graph.ts';
import { type Finding, finding } from './findings.ts';

/** In fewer images than this, tags that occur once are to be expected. */
const LEAST_IMAGES = 4;
/** Comparing words is slow, and nobody reads more. */
const MOST_COMPARED = 200;

/** `captions`: by the path of the image. */
export function captionFindings(captions: ReadonlyMap<AbsolutePath, string>): readonly Finding[] {
  if (captions.size < LEAST_IMAGES) return [];
  const users = new Map<string, AbsolutePath[]>();
  for (const [path, caption] of captions) {
    for (const tag of new Set(tagsOf(caption))) users.set(tag, [...(users.get(tag) ?? []), path]);
  }
  const common = [...users].filter(([, paths]) => paths.length > 1).map(([tag]) => tag);
  return [...users]
    .filter(([, paths]) => paths.length === 1)
    .map(([tag, paths], index) => {
      const meant = index < MOST_COMPARED ? nearest(tag, common) : undefined;
      const instead = meant === undefined ? '' : ` Others have "${meant}".`;
      return finding('rare-tag', paths, `"${tag}" occurs in this caption alone.${instead}`);
    });
}

function tagsOf(caption: string): readonly string[] {
  return caption.split(/[,\n]/).flatMap((piece) => piece.trim() || []);
}
