// The prompts of `lorac analyze`, as one file for the stage that renders them: the user's own where nothing is added to
// it, else one in the cache that is called by what it holds, so that the same prompts are known again.

import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { digestOf } from '../runtime/cache/digest.ts';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import { absolutePath, pathIn } from '../runtime/graph/paths.ts';
import { parsePrompts, withOptions } from '../runtime/stages/pictures/sample-prompts.ts';
import { cacheFolder } from '../runtime/worker/cache-folder.ts';
import { UsageError } from './usage-error.ts';

export interface WrittenPrompts {
  /** A prompt file, whose lines have defaults of their own. */
  readonly prompts?: string;
  /** Prompts from the command line, with options as in a file. */
  readonly prompt: readonly string[];
  /** For prompts that do not say otherwise. */
  readonly size?: string;
  readonly steps?: string;
  readonly seed?: string;
}

/** `undefined` where there are no prompts. Throws a `UsageError` for what a file or an option says wrongly. */
export function promptFile(written: WrittenPrompts): AbsolutePath | undefined {
  const { prompts, prompt } = written;
  const options = optionsOf(written);
  if (prompts === undefined && prompt.length === 0) {
    if (options === '') return undefined;
    throw new UsageError('There are no prompts to render.', 'add --prompt TEXT or --prompts FILE');
  }
  const given = prompts === undefined ? '' : readPromptFile(prompts);
  const theirs = given.split(/\r?\n/).map((line) => (isPrompt(line) ? withOptions(line, options) : line));
  const typed = prompt.map((text) => {
    const line = withOptions(text.replaceAll(/\s+/g, ' ').trim(), options);
    // Before all other options, so that each of them goes before it; a blank, so that no prompt is a comment.
    return ` ${withOptions(line, '--w 1024 --h 1024 --s 20 --d 0')}`;
  });
  refuseWrongLines(theirs, prompts ?? '');
  refuseWrongLines(typed, '--prompt');
  if (prompts !== undefined && prompt.length === 0 && options === '') return absolutePath(resolve(prompts));
  const text = [...theirs, ...typed].filter(isPrompt).join('\n');
  if (text === '') throw new UsageError(`"${prompts}" has no prompt.`);
  const folder = pathIn(cacheFolder(), 'prompts');
  const path = pathIn(folder, `${digestOf(text)}.txt`);
  // Untouched when it is there: its time is part of how the store knows it again.
  if (statSync(path, { throwIfNoEntry: false }) === undefined) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path, `${text}\n`);
  }
  return path;
}

function optionsOf({ size, steps, seed }: WrittenPrompts): string {
  const [, width, height] = /^(\d+)[x×](\d+)$/i.exec(size ?? '') ?? [];
  if (size !== undefined && width === undefined) {
    throw new UsageError(`"--size" needs a width and a height such as 1024x1024, and has "${size}".`);
  }
  return [
    ...(width === undefined ? [] : [`--w ${width} --h ${height}`]),
    ...(steps === undefined ? [] : [`--s ${steps}`]),
    ...(seed === undefined ? [] : [`--d ${seed}`]),
  ].join(' ');
}

function readPromptFile(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new UsageError(
      `There is no file "${path}".`,
      '--prompt takes the text of a prompt, --prompts a file of them',
    );
  }
  return readFileSync(path, 'utf8').replace(/^\uFEFF/, '');
}

function isPrompt(line: string): boolean {
  return line.trim() !== '' && !line.startsWith('#');
}

function refuseWrongLines(lines: readonly string[], where: string): void {
  const [problem] = parsePrompts(lines.join('\n'), 'euler_a').problems;
  if (problem) throw new UsageError(`${where}, line ${problem.line}: ${problem.message}.`);
}
