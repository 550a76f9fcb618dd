import { expect, test } from 'vitest';
import { StageFailure } from '../../../src/runtime/events.ts';
import { parsePrompts, readPrompts } from '../../../src/runtime/stages/pictures/sample-prompts.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

function promptsOf(text: string) {
  const { prompts, problems } = parsePrompts(text, 'euler_a');
  expect(problems).toEqual([]);
  return prompts;
}

function problemsOf(line: string) {
  return parsePrompts(line, 'euler_a').problems.map(({ message }) => message);
}

test('a line is a prompt with options behind it', () => {
  expect(
    promptsOf('a cat, best quality --n blurry, two -- dashes --w 830 --h 1216 --d 7 --s 12 --l 5.5 --ss euler_a'),
  ).toEqual([
    {
      prompt: 'a cat, best quality',
      negative_prompt: 'blurry, two -- dashes',
      width: 824,
      height: 1216,
      seed: 7,
      steps: 12,
      scale: 5.5,
      sampler: 'euler_a',
    },
  ]);
});

test('what is not said has the size of SDXL, 30 steps and a guidance of 7.5', () => {
  expect(promptsOf('a cat')[0]).toMatchObject({
    width: 1024,
    height: 1024,
    steps: 30,
    scale: 7.5,
    negative_prompt: '',
  });
});

test('a line without a seed always has the same one, and another line another', () => {
  const [one, same, other] = promptsOf('a cat\na cat\na dog');
  expect(one?.seed).toBe(same?.seed);
  expect(one?.seed).not.toBe(other?.seed);
});

test('empty lines, comments, a byte order mark and Windows line ends mean nothing', () => {
  expect(promptsOf('\uFEFF# prompts\r\n\r\na cat\r\n   \r\n# more\r\na dog\r\n').map(({ prompt }) => prompt)).toEqual([
    'a cat',
    'a dog',
  ]);
});

test('a prompt that begins like an option is still a prompt', () => {
  expect(promptsOf('n 5 --d 1')[0]).toMatchObject({ prompt: 'n 5', seed: 1 });
});

test('an option of other models does nothing, as in sd-scripts', () => {
  expect(promptsOf('a cat --g 3.5 --d 1')[0]).toMatchObject({ prompt: 'a cat', seed: 1 });
});

test.each([
  ['a --w wide', '"--w" needs a whole number from 64 to 4096, and has "wide"'],
  ['a --h 32', '"--h" needs a whole number from 64 to 4096, and has "32"'],
  ['a --d -1', '"--d" needs a whole number from 0 to 9007199254740991, and has "-1"'],
  ['a --s 1001', '"--s" needs a whole number from 1 to 1000, and has "1001"'],
  ['a --l', '"--l" needs a number, and has ""'],
  ['a --ss ddim', '"--ss" knows "euler_a", and has "ddim"'],
  ['a --cn pose.png', '"--cn" is no option; there are --n, --w, --h, --d, --s, --l and --ss'],
])('%s is explained', (line, problem) => {
  expect(problemsOf(line)).toEqual([problem]);
});

test('every wrong line is told with its number', () => {
  const { problems } = parsePrompts('a\nb --w x --s y\n\nc --q\n', 'euler_a');
  expect(problems.map(({ line }) => line)).toEqual([2, 2, 4]);
});

test.each([
  ['empty.txt', '# nothing\n', 'it has no prompt'],
  ['prompts.toml', '[prompt]', 'a text file is needed'],
  ['latin.txt', Buffer.from([0x61, 0xe9, 0x0a]), 'it is not UTF-8 text'],
])('%s is refused by name', async (name, content, why) => {
  using folder = temporaryFolder();
  folder.write({ [name]: content });
  const error = await readPrompts(folder.at(name), 'euler_a').catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(StageFailure);
  const { failure } = error as StageFailure;
  expect(failure.kind).toBe('bad-input');
  expect(failure.message).toContain(folder.at(name));
  expect(failure.message).toContain(why);
});

test('a prompt file that is not there is named', async () => {
  using folder = temporaryFolder();
  await expect(readPrompts(folder.at('gone.txt'), 'euler_a')).rejects.toThrow(`"${folder.at('gone.txt')}"`);
});
