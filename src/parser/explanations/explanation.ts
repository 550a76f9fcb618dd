// What an explanation is, and the blocks that its examples leave out.

export interface Explanation {
  /** What is wrong, why it matters and what to do, for someone who meets it for the first time. */
  readonly means: string;
  /** A program that has this problem and no other; what it mentions without saying it comes from `given`. */
  readonly wrong: string;
  /** The same, mended. */
  readonly right: string;
  /** Other files that the examples import, by path. */
  readonly files?: { readonly [path: string]: string };
}

export type Explanations = { readonly [code: string]: Explanation };

/** A training of the usual blocks, with the attributes that an example is about. */
export const trainWith = (attributes: string): string => `train raw { base = pony  data = hero  ${attributes} }`;

const usual: { readonly [name: string]: string } = {
  raw: 'train raw { base = pony  data = hero }',
  style: 'lora style { path = "style.safetensors"  base = pony }',
  hero: 'dataset hero { images = "images" }',
  pony: 'checkpoint pony { path = "pony.safetensors" }',
};

/** The usual blocks that an example mentions without saying what they are. They stand behind it, so that its lines keep their numbers. */
export function given(example: string): string {
  let text = example;
  for (const [name, block] of Object.entries(usual)) {
    const isMentioned = new RegExp(`\\b${name}\\b`).test(text);
    const isDefined = new RegExp(`^\\s*(?:train|lora|dataset|checkpoint) "?${name}\\b`, 'm').test(text);
    if (isMentioned && !isDefined) text += `\n${block}`;
  }
  return text.slice(example.length);
}
