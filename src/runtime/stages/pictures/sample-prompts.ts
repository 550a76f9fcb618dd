// The prompt file: one picture per line, with sd-scripts' options behind the prompt.
//
//   a cat on a sofa, best quality --n blurry, cropped --w 832 --h 1216 --d 7 --s 30 --l 7.5
//
//   --n text     what to avoid, up to the next option
//   --w, --h     size in pixels, rounded down to a multiple of 8; 1024, which is SDXL's own, where it is not given
//   --d number   seed; where it is not given it follows from the line, so that the same line gives the same picture
//   --s number   steps, 30
//   --l number   guidance, 7.5; none at 1 and below
//   --ss word    sampler, in place of the program's
//
// Empty lines and lines that begin with # mean nothing.

import { readFile } from 'node:fs/promises';
import { digestOf } from '../../cache/digest.ts';
import { type FileProblem, StageFailure } from '../../events.ts';
import type { AbsolutePath } from '../../graph/graph.ts';
import type { SamplePrompt } from '../../worker/protocol.ts';

type Sampler = SamplePrompt['sampler'];

const SAMPLERS: readonly Sampler[] = ['euler_a'];

/** Options that sd-scripts has for other models. They do nothing for SDXL there, and nothing here. */
const WITHOUT_EFFECT = ['g'];

/** The prompts of a file. Throws a `StageFailure` with every line that is wrong. */
export async function readPrompts(path: AbsolutePath, sampler: Sampler): Promise<readonly SamplePrompt[]> {
  if (/\.(toml|json)$/i.test(path)) {
    throw unusable(path, [], 'a text file is needed, with one prompt per line');
  }
  const { prompts, problems } = parsePrompts(await readText(path), sampler);
  if (problems.length > 0) {
    const found = problems.map(({ line, message }) => ({ path, message: `line ${line}: ${message}` }));
    const [first] = problems;
    const summary =
      problems.length === 1 && first ? `line ${first.line}: ${first.message}` : `${problems.length} lines are wrong`;
    throw unusable(path, found, summary);
  }
  if (prompts.length === 0) throw unusable(path, [], 'it has no prompt');
  return prompts;
}

/** What stands beside the pictures of a prompt: the same words may be there with several seeds. */
export function promptLabel({ prompt, seed, width, height }: SamplePrompt): string {
  return `${prompt} (seed ${seed}, ${width}×${height})`;
}

export interface LineProblem {
  readonly line: number;
  readonly message: string;
}

export function parsePrompts(
  text: string,
  sampler: Sampler,
): { readonly prompts: readonly SamplePrompt[]; readonly problems: readonly LineProblem[] } {
  const prompts: SamplePrompt[] = [];
  const problems: LineProblem[] = [];
  for (const [index, line] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const parsed = parseLine(line.trim(), sampler);
    prompts.push(parsed.prompt);
    problems.push(...parsed.problems.map((message) => ({ line: index + 1, message })));
  }
  return { prompts, problems };
}

/** What an option begins with. */
const OPTION = /(?:^|\s)--(?=[a-z]+(?:\s|$))/i;

/** A line with options that it would go by if it said nothing else: `--w 1024 --h 1024`. Those of its own stay. */
export function withOptions(line: string, options: string): string {
  const found = OPTION.exec(line);
  const end = found === null ? line.length : found.index;
  return [line.slice(0, end), options, line.slice(end).trim()].filter((part) => part !== '').join(' ');
}

function parseLine(line: string, sampler: Sampler): { prompt: SamplePrompt; problems: readonly string[] } {
  const [prompt = '', ...options] = line.split(OPTION);
  const problems: string[] = [];
  let result: SamplePrompt = {
    prompt: prompt.trim(),
    negative_prompt: '',
    width: 1024,
    height: 1024,
    seed: Number.parseInt(digestOf(line).slice(0, 8), 16),
    steps: 30,
    scale: 7.5,
    sampler,
  };
  for (const option of options) {
    const [name = '', ...rest] = option.trim().split(/\s+/);
    const parsed = parseOption(name.toLowerCase(), rest.join(' '));
    if ('problem' in parsed) problems.push(parsed.problem);
    else result = { ...result, ...parsed };
  }
  return { prompt: result, problems };
}

type Parsed = Partial<SamplePrompt> | { readonly problem: string };

function parseOption(name: string, value: string): Parsed {
  const whole = (field: 'width' | 'height' | 'seed' | 'steps', min: number, max: number, step = 1): Parsed => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < min || number > max) {
      return { problem: `"--${name}" needs a whole number from ${min} to ${max}, and has "${value}"` };
    }
    return { [field]: number - (number % step) };
  };
  switch (name) {
    case 'n':
      return { negative_prompt: value };
    case 'w':
      return whole('width', 64, 4096, 8);
    case 'h':
      return whole('height', 64, 4096, 8);
    case 'd':
      return whole('seed', 0, Number.MAX_SAFE_INTEGER);
    case 's':
      return whole('steps', 1, 1000);
    case 'l': {
      const scale = Number(value);
      if (value !== '' && Number.isFinite(scale)) return { scale };
      return { problem: `"--l" needs a number, and has "${value}"` };
    }
    case 'ss': {
      const sampler = SAMPLERS.find((known) => known === value);
      if (sampler) return { sampler };
      return { problem: `"--ss" knows ${SAMPLERS.map((known) => `"${known}"`).join(', ')}, and has "${value}"` };
    }
    default:
      if (WITHOUT_EFFECT.includes(name)) return {};
      return { problem: `"--${name}" is no option; there are --n, --w, --h, --d, --s, --l and --ss` };
  }
}

async function readText(path: AbsolutePath): Promise<string> {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await readFile(path));
  } catch (error) {
    if (error instanceof TypeError) throw unusable(path, [], 'it is not UTF-8 text');
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw unusable(path, [], 'there is no such file');
    if (code === 'EISDIR') throw unusable(path, [], 'it is a folder');
    throw error;
  }
}

function unusable(path: string, problems: readonly FileProblem[], why: string): StageFailure {
  return new StageFailure({
    kind: 'bad-input',
    message: `The prompt file "${path}" cannot be used: ${why}.`,
    hint: 'Write one prompt per line, such as: a cat on a sofa --n blurry --w 1024 --h 1024 --d 7',
    problems,
  });
}
