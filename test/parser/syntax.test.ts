// Slips in how a program is written: each costs as little as possible, and nothing after it is lost.

import { describe, expect, test } from 'vitest';
import { around, compileText, expectProblems, fixAll, hintsOf, trainWith } from './marked.ts';

describe('a missing closing brace costs one block', () => {
  test('the next block is found', () => {
    expectProblems(
      ['unclosed', 'unknown-name'],
      `checkpoint pony «{»
         path = "pony.safetensors"
       resize small { from = «nothing» }`,
    );
  });

  test('also when the next block is named in quotes', () => {
    expectProblems(
      ['unclosed'],
      `${around} train raw { base = pony data = hero }
       resize small «{» from = raw
       save "a.safetensors" { from = small }`,
    );
  });

  test('also when the next block extends another', () => {
    expectProblems(
      ['unclosed'],
      `${around} train raw { base = pony data = hero }
       resize small «{» from = raw
       resize smaller extends small { thr = -3 }`,
    );
  });

  test('also when the next block has a misspelt kind', () => {
    expectProblems(
      ['unclosed', 'unknown-kind'],
      `checkpoint pony «{» path = "a"
       «datset» hero { images = "x" }`,
    );
  });

  test('also when it is a list or a record that stays open', () => {
    expectProblems(
      ['unclosed', 'unclosed'],
      `dataset hero «{» images = «[»"a", "b"
       checkpoint pony { path = "a" }`,
    );
  });

  test('a let ends it as well', () => {
    expectProblems(['unclosed'], 'checkpoint pony «{» path = "a"\nlet x = 1');
  });

  test('and the end of the file too', () => {
    expectProblems(['unclosed'], 'checkpoint pony «{»\n  path = "a"\n\n');
  });

  test('a list closed by the brace of its block', () => {
    expectProblems(['unclosed'], `${around} dataset two { images = «[»"a", "b" }`);
  });
});

describe('brackets too many', () => {
  test('a closing brace that nothing opened is left out', () => {
    expectProblems(['unopened'], `${around}«}»\ndataset other { images = "x" }`);
  });

  test('nesting without end is stopped', () => {
    const { diagnostics } = compileText(`let x = ${'['.repeat(20_000)}`);
    expect(diagnostics.map(({ code }) => code)).toContain('too-deep');
  });

  test('so are endless chains', () => {
    for (const operator of ['+', '*', '**', '-']) {
      const { diagnostics } = compileText(trainWith(`seed = 1${` ${operator} 1`.repeat(5_000)}`));
      expect(diagnostics.map(({ code }) => code)).toEqual(['too-deep']);
    }
    expect(compileText(trainWith(`amp_fac = ${'- '.repeat(5_000)}1`)).diagnostics).toHaveLength(1);
  });
});

describe('a missing "="', () => {
  test('before text, a number, a list, a record and a word', () => {
    expectProblems(
      ['missing-equals', 'missing-equals', 'missing-equals', 'missing-equals', 'missing-equals'],
      `checkpoint pony { «path» "a" }
       dataset hero { «images» ["x"] «repeats» 3 «bucket» { min = 64 } «flip_aug» true }`,
    );
  });

  test('the value is read all the same', () => {
    expectProblems(['missing-equals', 'unknown-attribute'], trainWith('«optimizer» SAVEUS { «bets» = [0.9, 0.99] }'));
  });

  test('the fix puts it in', () => {
    expect(fixAll('checkpoint pony { path "a" }')).toBe('checkpoint pony { path = "a" }');
  });

  test('in a let', () => {
    expectProblems(['missing-equals'], `let «x» 3 ${around}`);
  });

  test('":" in its place', () => {
    expectProblems(['colon'], 'checkpoint pony { path«:» "a" }');
  });
});

describe('a missing value', () => {
  test('does not swallow the next attribute', () => {
    expectProblems(['missing-value'], 'dataset hero { repeats «=»\n images = "a" }');
  });

  test('does not swallow the next block', () => {
    expectProblems(['unclosed', 'missing-value'], 'checkpoint pony «{» path «=»\ndataset hero { images = "a" }');
  });

  test('after an operator', () => {
    expectProblems(['unexpected'], trainWith('seed = 3 * \n «steps» = 4'));
  });
});

describe('names of blocks', () => {
  test('missing', () => {
    expectProblems(['missing-name'], '«checkpoint» { path = "a" }');
  });

  test('with letters that no name has', () => {
    expectProblems(['bad-name'], 'checkpoint «pony-v6» { path = "a" }');
    expectProblems(['bad-name'], 'checkpoint «6pony» { path = "a" }');
  });

  test('in quotes where none belong, and without where they do', () => {
    const program = `checkpoint «"pony"» { path = "a" }
       dataset hero { images = "a" }
       train raw { base = pony data = hero }
       save «raw» { from = raw }`;
    expectProblems(['quoted-name', 'save-name'], program);
    expect(compileText(fixAll(program.replaceAll(/[«»]/g, ''))).diagnostics).toEqual([]);
  });

  test('without the brace behind them', () => {
    expectProblems(['missing-brace'], '«checkpoint pony»\n path = "a"\n}\ndataset hero { images = "a" }');
  });
});

describe('text', () => {
  test('without its closing quote ends with the line', () => {
    expectProblems(['open-text'], 'checkpoint pony { path = «"a» }\ndataset hero { images = "x" }');
    expectProblems(['open-text'], 'checkpoint pony {\n path = «"a»\n}\ndataset hero { images = "x" }');
  });

  test('in the quotes of web pages', () => {
    expectProblems(['odd-quotes'], 'checkpoint pony { path = «“a.safetensors”» }');
  });

  test('without quotes, where it can only be a path', () => {
    const program = 'checkpoint a { path = «/x/y.safetensors» } checkpoint b { path = «C:\\x\\y.safetensors» }';
    expectProblems(['bare-text', 'bare-text'], program);
    const fixed = fixAll(program.replaceAll(/[«»]/g, ''));
    expect(fixed).toBe(`checkpoint a { path = "/x/y.safetensors" } checkpoint b { path = 'C:\\x\\y.safetensors' }`);
    expect(compileText(fixed).diagnostics).toEqual([]);
  });

  test('with a backslash that means nothing', () => {
    expectProblems(['bad-escape'], 'checkpoint pony { path = "C:«\\p»ics" }');
  });

  test('with an interpolation that is empty, open or unreadable', () => {
    expectProblems(
      ['empty-interpolation', 'open-interpolation', 'unexpected'],
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the program's own.
      'checkpoint a { path = "${«»}" } checkpoint b { path = "«${»a" } checkpoint c { path = "${1 +«»}" }',
    );
  });
});

describe('other things', () => {
  test('characters that mean nothing are named, once for each run of them', () => {
    expectProblems(['unexpected-character', 'unexpected-character'], `${around}«;;» dataset b { images = "x"«;» }`);
  });

  test('numbers with unknown units', () => {
    expectProblems(['odd-number'], trainWith('state_every = «5m»'));
    expect(hintsOf(trainWith('state_every = 5m'))).toEqual(['Write 5min']);
    expectProblems(['odd-number'], `resize a { from = «8apples» }`);
  });

  test('attributes outside of every block', () => {
    expectProblems(['outside-block'], `${around}«seed = 3»\ndataset other { images = "x" }`);
  });

  test('a list without commas is read, and told to have some', () => {
    expectProblems(['missing-comma'], 'dataset hero { images = [«"a"» "b"] }');
  });

  test('commas between attributes are welcome and not needed', () => {
    expectProblems(
      [],
      'dataset hero { images = "a", repeats = 2, bucket = { min = 64, max = 2048 } flip_aug = true, }',
    );
  });

  test('both kinds of comment, line ends of Windows, a byte order mark', () => {
    expectProblems([], '\ufeff# one\r\n// two\r\ncheckpoint pony { // three\r\n path = "a#b//c" # four\r\n}\r\n');
  });

  test('words that later blocks have can be names: all words are contextual', () => {
    expectProblems(
      [],
      `checkpoint train { path = "a" }
       dataset let { images = "a" }
       train dataset { base = train  data = let }
       resize extends { from = dataset }
       save "a.safetensors" { from = extends }`,
    );
  });

  test('one line that went wrong is complained about once', () => {
    expectProblems(['unexpected'], 'resize a { from = «=» = 3 4 }');
  });
});

describe('what stands between blocks', () => {
  test('is skipped, and the next block is found', () => {
    expectProblems(
      ['unexpected', 'wrong-kind'],
      `«)»= 3 "x" [1] { a = 1 }\n${around} resize a { from = «pony» }`.replace('«)»= 3', '«=» 3'),
    );
  });

  test('a header with "=" or ":" before its brace', () => {
    expectProblems(['extra-equals'], 'checkpoint pony «=» { path = "a" }');
    expect(fixAll('checkpoint pony: { path = "a" }')).toBe('checkpoint pony { path = "a" }');
  });
});

describe('what is not in the language says what is', () => {
  test('a step that is none, functions, other blocks', () => {
    const found = expectProblems(
      ['unknown-kind', 'odd-choice', 'no-function'],
      `${around}
       train raw { base = pony data = hero }
       «upload» it { command = "upload" }
       resize a { from = «raw@last» }
       resize b { from = raw rescale = «getenv("RESCALE")» }`,
    );
    for (const { hint } of found) expect(hint).toBeDefined();
  });
});

test.each([
  ['run "my report" { }', 'Names have letters, digits and "_": run my_report { … }'],
  ['run "2nd" { }', 'Names have letters, digits and "_": run _2nd { … }'],
  ['resize a { size = 12 % }', 'A percentage has its sign right behind the number: 50%'],
  ['let a = "${env("NAME", "b")}"', `Inside of it, text has the other quotes: "\${env('NAME', 'default')}"`],
  ['let a = "costs ${5"', 'Write "\\${" for the two characters themselves.'],
])('%s has a hint that can be followed', (program, hint) => {
  expect(hintsOf(program)).toContain(hint);
});

test('a text that asks for what a block says, and cannot be text, is where the mistake is', () => {
  expectProblems(
    ['wrong-type', 'wrong-type'],
    `${around} train raw { base = pony  data = hero  network = locon }
    save "a\${«raw.data»}.safetensors" { from = raw }
    save "b\${«raw.network»}.safetensors" { from = raw }`,
  );
});
