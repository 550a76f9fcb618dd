// What people write who come from elsewhere: one complaint for each slip, at the slip, with what to write instead.

import { expect, test } from 'vitest';
import { around, compileText, expectProblems, trainWith } from './marked.ts';

/** The one hint about a marked program. */
function hintOn(code: string, marked: string): string | undefined {
  return expectProblems([code], marked)[0]?.hint;
}

test.each([
  ['models/pony.safetensors', '"models/pony.safetensors"'],
  ['models/sub-1/pony.v6.safetensors', '"models/sub-1/pony.v6.safetensors"'],
  ['models\\pony.safetensors', "'models\\pony.safetensors'"],
  ['pony.safetensors"', '"pony.safetensors"'],
  ['C:\\Program Files\\pony.safetensors', "'C:\\Program Files\\pony.safetensors'"],
  ['/home/me/my models/pony.safetensors', '"/home/me/my models/pony.safetensors"'],
])('a path without quotes is quoted whole: %s', (path, written) => {
  expect(hintOn('bare-text', `checkpoint pony { path = «${path}» }`)).toBe(`Write ${written}`);
});

test('a pattern without quotes is one as well, and no comment', () => {
  const hint = hintOn('bare-text', 'dataset hero { images = «pics/**/*.png» flip_aug = false }');
  expect(hint).toBe('Write "pics/**/*.png"');
});

test('what only looks like a path stays what it is', () => {
  expect(compileText(trainWith('seed = a/b', 'let a = 8 let b = 4')).diagnostics).toEqual([]);
  expect(hintOn('wrong-type', 'checkpoint pony { path = «models/pony» }')).toBe('Write "models/pony"');
  expectProblems(['bare-text'], 'dataset hero { images = «/data/x» // the best of them\n flip_aug = false }');
});

test('a path in double quotes with backslashes costs one complaint', () => {
  expect(hintOn('bad-escape', 'checkpoint pony { path = "C:«\\U»sers\\new\\pony.safetensors" }')).toContain(
    "'C:\\Users\\new\\pony.safetensors'",
  );
  expect(hintOn('odd-path', 'checkpoint pony { path = «"D:\\temp\\new.safetensors"» }')).toContain(
    "'D:\\temp\\new.safetensors'",
  );
});

test.each([['“x”'], ['‘x’'], ['`x`'], ['«x»'], ['„x“'], ['＂x＂']])('quotes of another kind: %s', (quoted) => {
  const { diagnostics } = compileText(`dataset hero { images = ${quoted} }`);
  expect(diagnostics.map(({ code, hint }) => [code, hint])).toEqual([['odd-quotes', 'Write "x"']]);
});

test.each([['1024 x 768'], ['1024×768'], ['1024 × 768'], ['1024X768']])('a size, nearly: %s', (size) => {
  expect(hintOn('odd-number', `dataset hero { images = "x" resolution = «${size}» }`)).toBe('Write 1024x768');
});

test('numbers as other languages and people write them', () => {
  expect(hintOn('unexpected', trainWith('unet_lr = 0,«0003»'))).toBe('Numbers have a point: 0.0003');
  expect(hintOn('odd-number', trainWith('steps = «80steps»'))).toBe('Write 80');
});

test('blanks that nobody can see mean nothing', () => {
  expect(compileText(trainWith('steps\u3000=\u200b 80\u2009')).diagnostics).toEqual([]);
});

test('signs of East Asian keyboards are named in their narrow form', () => {
  expect(hintOn('unexpected-character', `${around}train raw { base = pony data = hero «｝»}`)).toBe('Write }');
});

test('comments of other languages', () => {
  expect(hintOn('slash-star', `«/* mine,\n all mine */»${around}`)).toBe(
    'A comment begins with # or // and ends with its line.',
  );
});

test('a name that is no name is complained about where it is given, not where it is used', () => {
  expectProblems(['bad-name'], `${around}train «my-raw» { base = pony data = hero } resize small { from = my-raw }`);
});

test('pickled checkpoints are refused before anything is looked for', () => {
  expect(hintOn('pickled-file', 'checkpoint pony { path = «"models/pony.ckpt"» }')).toContain('.safetensors');
});

test('at the top of a file, blocks are what can stand there', () => {
  expect(hintOn('unexpected', '«{» "checkpoint": { "pony": { "path": "x" } } }')).toContain('Here begins a block');
});

test('a pasted command is pointed at piece by piece', () => {
  const { diagnostics } = compileText('accelerate launch train.py --steps=8');
  expect(diagnostics.map(({ code, span }) => [code, span.start])).toEqual([
    ['outside-block', 0],
    ['outside-block', 18],
    ['unexpected', 29],
  ]);
});

test('a program without blocks is said to be empty only where nothing else is wrong', () => {
  expect(compileText('let x = 1').diagnostics.map(({ code }) => code)).toEqual(['nothing-asked']);
  expect(compileText('steps = 1').diagnostics.map(({ code }) => code)).toEqual(['outside-block']);
});

test('what could begin a path, or quotes, a thousand times over is looked at once', () => {
  const started = performance.now();
  for (const piece of ['a/', '« ', 'a-a/', '/*']) compileText(`let x = ${piece.repeat(20_000)}`);
  expect(performance.now() - started).toBeLessThan(5_000);
});
