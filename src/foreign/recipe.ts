// What a configuration of another trainer asks for, in the words of sd-scripts: the one vocabulary that nearly everything
// in the field can be said in. Readers of each form give a recipe; one translation makes a program of it.

import type { Plain, PlainRecord } from './plain.ts';

export interface Recipe {
  /** What it was read from, for a sentence: "a command of sd-scripts". */
  readonly from: string;
  /** Whose defaults hold where nothing is written, for a comment: "sd-scripts". */
  readonly trainer: string;
  /** By the name of the flag, without dashes. In the order they are written. */
  readonly options: ReadonlyMap<string, Plain>;
  /** What the trainer takes where an option is not written. */
  readonly defaults: ReadonlyMap<string, Plain>;
  /** From a dataset configuration. Empty: `train_data_dir` and `reg_data_dir` say where the images are. */
  readonly subsets: readonly Subset[];
  /** What the reader could already tell has no counterpart. */
  readonly left: readonly Left[];
  /** What is done with the LoRA afterwards, where that was pasted as well. */
  readonly resize: string | undefined;
  readonly chop: string | undefined;
}

/** One folder of images, with the options that hold for it: its own before those of its dataset and of all. */
export interface Subset {
  readonly images: string;
  readonly isRegularization: boolean;
  readonly options: ReadonlyMap<string, Plain>;
}

/** A setting that has no counterpart, and why. */
export interface Left {
  readonly name: string;
  readonly value: Plain;
  readonly reason: string;
  /** It makes no other LoRA. */
  readonly isHarmless?: true;
}

/** Nothing can be made of the text, in the user's words. */
export interface Unreadable {
  readonly problem: string;
  readonly hint: string;
}

/** For each word of another trainer, the one of sd-scripts. */
export type Names = { readonly [theirs: string]: string };

/** Takes over what is written under the words of another trainer. */
export function take(options: Map<string, Plain>, from: PlainRecord, names: Names): void {
  for (const [theirs, ours] of Object.entries(names)) {
    const value = from[theirs];
    if (value !== undefined && value !== null) options.set(ours, value);
  }
}

/** What a reader may ask of the world around it. */
export interface Surroundings {
  /** The text of a file that the configuration names, `undefined` where it cannot be read. */
  readonly readText: (path: string) => string | undefined;
  /** Visits of images in an epoch: all below a folder, or those in folders such as 5_fox. `undefined` where there are none. */
  readonly countImages: (folder: string, style: 'flat' | 'kohya') => number | undefined;
}

/** Where nothing but the text is known. */
export const nowhere: Surroundings = { readText: () => undefined, countImages: () => undefined };

/** Text of a value that stands in a shell variable which was not pasted: kept as a mark until the program is printed. */
export const variableMark = (name: string): string => `\uE000${name}\uE001`;
const marked = /\uE000(\w+)\uE001/g;

export function variablesIn(text: string): string[] {
  return [...text.matchAll(marked)].map(([, name]) => name as string);
}

/** For a comment. */
export function withDollars(text: string): string {
  return text.replaceAll(marked, '$$$1');
}

/** Pieces of plain text, and names of variables between them. */
export function splitAtVariables(text: string): readonly (string | { readonly variable: string })[] {
  return text
    .split(/(\uE000\w+\uE001)/)
    .filter((piece) => piece !== '')
    .map((piece) => {
      const [variable] = variablesIn(piece);
      return variable === undefined ? piece : { variable };
    });
}
