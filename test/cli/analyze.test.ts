// lorac analyze before anything runs: which prompts there are, and what is refused.

import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { analyze } from '../../src/cli/analyze.ts';
import { promptFile } from '../../src/cli/analyze-prompts.ts';
import { parsePrompts } from '../../src/runtime/stages/pictures/sample-prompts.ts';
import { type TemporaryFolder, temporaryFolder } from '../helpers/temporary-folder.ts';
import { writeLora } from '../runtime/stages/lora-files.ts';

let folder: TemporaryFolder;

beforeEach(() => {
  folder = temporaryFolder();
  vi.stubEnv('LORAC_CACHE', folder.at('cache'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  folder[Symbol.dispose]();
});

function promptsIn(path: string | undefined) {
  if (path === undefined) throw new Error('There is no prompt file.');
  const { prompts, problems } = parsePrompts(readFileSync(path, 'utf8'), 'euler_a');
  expect(problems).toEqual([]);
  return prompts;
}

test('without prompts there is no file, and options for pictures are refused', () => {
  expect(promptFile({ prompt: [] })).toBeUndefined();
  expect(() => promptFile({ prompt: [], steps: '12' })).toThrow('There are no prompts to render.');
});

test('a prompt from the command line has defaults, which options replace, which its own options replace', () => {
  const [first, second] = promptsIn(
    promptFile({ prompt: ['a cat', 'a dog --d 7 --w 640 --n blurry'], size: '832x1216' }),
  );
  expect(first).toMatchObject({ prompt: 'a cat', width: 832, height: 1216, steps: 20, seed: 0, negative_prompt: '' });
  expect(second).toMatchObject({ prompt: 'a dog', width: 640, height: 1216, seed: 7, negative_prompt: 'blurry' });
});

test('a prompt that begins like a comment, or goes over two lines, is one prompt', () => {
  const prompts = promptsIn(promptFile({ prompt: ['#1 hero\nin a field'] }));
  expect(prompts.map(({ prompt }) => prompt)).toEqual(['#1 hero in a field']);
});

test('a prompt file is taken as it is, with the defaults of prompt files', () => {
  folder.write({ 'prompts.txt': '# mine\na cat\na dog --s 9\n' });
  const path = promptFile({ prompts: folder.at('prompts.txt'), prompt: [] });
  expect(path).toBe(folder.at('prompts.txt'));
  expect(promptsIn(path).map(({ steps }) => steps)).toEqual([30, 9]);
});

test('options reach the lines of a prompt file that do not say otherwise, and the file stays as it is', () => {
  folder.write({ 'prompts.txt': '# mine\na cat\n\na dog --s 9\n' });
  const path = promptFile({ prompts: folder.at('prompts.txt'), prompt: ['a horse'], steps: '12', seed: '4' });
  const found = promptsIn(path).map(({ prompt, steps, seed }) => [prompt, steps, seed]);
  expect(found).toEqual([
    ['a cat', 12, 4],
    ['a dog', 9, 4],
    ['a horse', 12, 4],
  ]);
  expect(readFileSync(folder.at('prompts.txt'), 'utf8')).toBe('# mine\na cat\n\na dog --s 9\n');
});

test('the same prompts are the same file, so that what was rendered for them is known again', () => {
  const [one, again, other] = [['a'], ['a'], ['b']].map((prompt) => promptFile({ prompt }));
  expect(again).toBe(one);
  expect(other).not.toBe(one);
});

test.each([
  [{ prompt: ['a cat --q 3'] }, '--prompt, line 1: "--q" is no option'],
  [{ prompt: ['a cat'], size: 'large' }, '"--size" needs a width and a height'],
  [{ prompt: ['a cat'], size: '8x8' }, '"--w" needs a whole number from 64'],
  [{ prompt: ['a cat'], steps: 'many' }, '"--s" needs a whole number'],
  [{ prompt: [], prompts: '/nonexistent/prompts.txt' }, 'There is no file'],
])('%j is refused with the reason', (written, message) => {
  expect(() => promptFile(written)).toThrow(message);
});

test('what is no LoRA, no base or no share is refused before anything starts', async () => {
  await writeLora(folder.at('hero.safetensors'));
  await writeLora(folder.at('other.safetensors'));
  const options = { prompt: [], share: '0.8', mixedPrecision: 'bf16' } as const;
  const [lora, base] = [folder.at('hero.safetensors'), folder.at('other.safetensors')];
  await expect(analyze({ ...options, lora, base })).rejects.toThrow('is a LoRA.');
  await expect(analyze({ ...options, lora: folder.at('none'), base })).rejects.toThrow('There is no file');
  for (const share of ['0', '1.1', 'most', '-0.2', '120%']) {
    await expect(analyze({ ...options, lora, base, share })).rejects.toThrow('"--share" needs');
  }
});

test('an analysis in numbers does not replace one with pictures unless it is told to', async () => {
  await writeLora(folder.at('hero.safetensors'));
  const ablation = JSON.stringify({ label: 'hero', ablation: { prompts: [] } });
  folder.write({
    'hero-analysis/report.json': ablation,
    'numbers/report.json': '{"ablation":null}',
    'odd/report.json': '[',
  });
  const [lora, base] = [folder.at('hero.safetensors'), folder.at('pony.safetensors')];
  const options = { prompt: [], share: '0.8', mixedPrecision: 'bf16', lora, base } as const;
  await expect(analyze(options)).rejects.toThrow('tells what pictures showed');
  await expect(analyze({ ...options, output: folder.at('hero-analysis') })).rejects.toThrow(
    'tells what pictures showed',
  );
  // These get as far as the base, which is not there.
  for (const output of ['numbers', 'odd', 'new']) {
    await expect(analyze({ ...options, output: folder.at(output) })).rejects.toThrow('There is no file');
  }
  await expect(analyze({ ...options, overwrite: true })).rejects.toThrow('There is no file');
  await expect(analyze({ ...options, prompt: ['a cat'] })).rejects.toThrow('There is no file');
  expect(readFileSync(folder.at('hero-analysis/report.json'), 'utf8')).toBe(ablation);
});
