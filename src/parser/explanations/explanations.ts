// What each diagnostic means, for `lorac explain`, for editors, and for docs/diagnostics.md. A test holds the table to
// the code: every code is here, every wrong example has its problem and no other, every right one has none.

import { format } from '../format/format.ts';
import { commands } from './commands.ts';
import type { Explanation, Explanations } from './explanation.ts';
import { files } from './files.ts';
import { imports } from './imports.ts';
import { meaning } from './meaning.ts';
import { surgery } from './surgery.ts';
import { sweeps } from './sweeps.ts';
import { training } from './training.ts';
import { writing } from './writing.ts';

export type { Explanation };

interface Chapter {
  readonly title: string;
  readonly explanations: Explanations;
}

export const chapters: readonly Chapter[] = [
  { title: 'How a program is written', explanations: writing },
  { title: 'Names and values', explanations: meaning },
  { title: 'Files', explanations: files },
  { title: 'Images and training', explanations: training },
  { title: 'What is done to LoRAs', explanations: surgery },
  { title: 'Commands of your own', explanations: commands },
  { title: 'Sweeps', explanations: sweeps },
  { title: 'Programs of several files', explanations: imports },
];

const all: Explanations = Object.assign({}, ...chapters.map(({ explanations }) => explanations));

export const explainedCodes: readonly string[] = Object.keys(all).toSorted();

export function explanationOf(code: string): Explanation | undefined {
  return Object.hasOwn(all, code) ? all[code] : undefined;
}

/** What it means, on one line. */
export const meansOf = ({ means }: Explanation): string => means.replaceAll(/\s+/g, ' ');

/** The first sentence, for a list of all codes. */
export const headlineOf = (explanation: Explanation): string =>
  /^.*?[.:](?=\s|$)/.exec(meansOf(explanation))?.[0].replace(/:$/, '.') ?? meansOf(explanation);

/** An example as `lorac fmt` writes it, without a line end. */
export const inStyle = (example: string): string => format(example).text.trimEnd();

/** An example for the eye: some have to be long to be wrong. */
export const shortened = (example: string): string =>
  example
    .split('\n')
    .map((line) => (line.length > 160 ? `${line.slice(0, 70)} … ${line.slice(-40)}` : line))
    .join('\n');
