// What captions tell: words that are there only once, which are often misspelt, and words that nearly all of them have,
// which the prompts of a training should have too.

import { nearest } from '../../../parser/diagnostics/suggest.ts';
import type { AbsolutePath } from '../../graph/graph.ts';
import { type Finding, finding } from './findings.ts';

/** In fewer images than this, tags that occur once are to be expected. */
const LEAST_IMAGES = 4;
/** Comparing words is slow, and nobody reads more. */
const MOST_COMPARED = 200;

/** `captions`: by the path of the image. */
export function captionFindings(captions: ReadonlyMap<AbsolutePath, string>): readonly Finding[] {
  if (captions.size < LEAST_IMAGES) return [];
  const users = usersOf(captions);
  const common = [...users].filter(([, paths]) => paths.length > 1).map(([tag]) => tag);
  return [...users]
    .filter(([, paths]) => paths.length === 1)
    .map(([tag, paths], index) => {
      const meant = index < MOST_COMPARED ? nearest(tag, common) : undefined;
      const instead = meant === undefined ? '' : ` Others have "${meant}".`;
      return finding('rare-tag', paths, `"${tag}" occurs in this caption alone.${instead}`);
    });
}

/** A tag that so many captions have is what the dataset is about. */
const SHARE_OF_COMMON = 0.8;

/** Pictures that ask for nothing of what every caption says show nothing of what is learned. */
export function promptFindings(
  captions: ReadonlyMap<AbsolutePath, string>,
  trainings: readonly { readonly name: string; readonly prompts: readonly string[] }[],
): readonly Finding[] {
  if (captions.size < LEAST_IMAGES) return [];
  const common = [...usersOf(captions)]
    .filter(([, paths]) => paths.length >= SHARE_OF_COMMON * captions.size)
    .toSorted(([, some], [, others]) => others.length - some.length);
  const [first] = common;
  if (first === undefined) return [];
  const [tag, paths] = first;
  return trainings
    .filter(({ prompts }) => prompts.length > 0 && !common.some(([one]) => prompts.some((prompt) => has(prompt, one))))
    .map(({ name }) => {
      const count = `${paths.length} of ${captions.size} captions`;
      return finding('prompts-apart', [], `No prompt of "${name}" has "${tag}", which stands in ${count}.`);
    });
}

const has = (prompt: string, tag: string): boolean => prompt.toLowerCase().includes(tag.toLowerCase());

/** The images that have each tag. */
function usersOf(captions: ReadonlyMap<AbsolutePath, string>): ReadonlyMap<string, readonly AbsolutePath[]> {
  const users = new Map<string, AbsolutePath[]>();
  for (const [path, caption] of captions) {
    for (const tag of new Set(tagsOf(caption))) {
      const paths = users.get(tag);
      if (paths === undefined) users.set(tag, [path]);
      else paths.push(path);
    }
  }
  return users;
}

function tagsOf(caption: string): readonly string[] {
  return caption.split(/[,\n]/).flatMap((piece) => piece.trim() || []);
}
