// The one style. Each program is given as someone may have written it, and as it stands afterwards.

import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { format } from '../../src/parser/format/format.ts';
import { holdClaims } from './fuzz/claims.ts';
import { knownPrograms } from './fuzz/edits.ts';

const root = new URL('../../', import.meta.url);

function expectFormat(written: string, formatted: string): void {
  expect(format(written).text).toBe(formatted);
  holdClaims(written);
}

test.each(globSync(['examples/**/*.lora', 'presets/*.lora'], { cwd: root }))('%s is in the one style', (path) => {
  const text = readFileSync(new URL(path, root), 'utf8');
  expect(format(text)).toEqual({ text, unreadLines: [] });
});

test('the program of the README is in the one style', () => {
  const [, program = ''] = /```lora\n(.*?)```/s.exec(readFileSync(new URL('README.md', root), 'utf8')) ?? [];
  expect(program).toContain('checkpoint');
  expect(format(program).text).toBe(program);
});

test('every program of the corpus means the same afterwards, and does not change again', () => {
  for (const program of knownPrograms()) holdClaims(program);
});

test('a record stays on one line while it fits, with two blanks and no commas', () => {
  expectFormat('chop tiny{from=small,keep=[ OUT01,MID ],}', 'chop tiny { from = small  keep = [OUT01, MID] }\n');
  expectFormat('merge m { from = { } }', 'merge m { from = { } }\n');
});

test('a record that is too wide for its line has a line for each attribute', () => {
  const long = `resize small { from = raw fro_ckpt = 1 spn_lora = 0.25 params = 0.125 thr = -3.55 max_rank = 64 min_rank = 8 rescale = 1 }`;
  expectFormat(
    long,
    `resize small {
  from     = raw
  fro_ckpt = 1
  spn_lora = 0.25
  params   = 0.125
  thr      = -3.55
  max_rank = 64
  min_rank = 8
  rescale  = 1
}
`,
  );
});

test('a list that is too wide for its line is filled line by line', () => {
  const blocks = Array.from({ length: 20 }, (_, index) => `OUT${index}00`);
  const [first, second] = [blocks.slice(0, 13).join(', '), blocks.slice(13).join(', ')];
  expectFormat(
    `chop c { from = a  keep = [${blocks.join()}] }`,
    `chop c {
  from = a
  keep = [
    ${first},
    ${second}
  ]
}
`,
  );
});

test('what shares a line shares it still, and lines of one form stand in columns', () => {
  expectFormat(
    `train raw {
 base = pony data=hero
    optimizer = SAVEUS {
  betas = [0.9, 0.999] eps = 1e-8
  amp_fac = 2.0  clip_lambda = step**0.25 }
steps=80
gradient_accumulation_steps = 6
batch_size = 8
}`,
    `train raw {
  base = pony  data = hero
  optimizer = SAVEUS {
    betas = [0.9, 0.999]  eps = 1e-8
    amp_fac = 2.0         clip_lambda = step ** 0.25
  }
  steps      = 80
  gradient_accumulation_steps = 6
  batch_size = 8
}
`,
  );
});

test('blocks, lets and params on lines of their own stand in columns, up to a blank line', () => {
  expectFormat(
    `param a=1
let longer = 2 # half
let b=-a ** -2

checkpoint pony {path="p.safetensors"}
dataset both extends hero {images="i"}
save "a.safetensors" {from=x}
save "bcd.safetensors" {from=y}`,
    `param a      = 1
let   longer = 2  # half
let   b      = -a ** -2

checkpoint pony              { path = "p.safetensors" }
dataset    both extends hero { images = "i" }
save "a.safetensors"   { from = x }
save "bcd.safetensors" { from = y }
`,
  );
});

test('comments stay where they are: on their own line, behind something, in records and in lists', () => {
  expectFormat(
    `

# first
train raw {# on the brace
      // of its own
  base = pony # short
  data =    hero, // long

  # before the end
}
dataset d {
  images = [ "a", # one
    # between
    "b" // two
  ]
}
#last`,
    `# first
train raw {  # on the brace
  // of its own
  base = pony  # short
  data = hero  // long

  # before the end
}
dataset d {
  images = [
    "a",  # one
    # between
    "b"  // two
  ]
}
#last
`,
  );
});

test('a comment in the middle of a value leaves the value as it is', () => {
  expectFormat(
    'train  raw {\n    seed =   1 + # one\n   2\n  steps=3 }',
    `train raw {
  seed =   1 + # one
   2
  steps = 3
}
`,
  );
});

test('of several blank lines one is left, and none at the ends of a block or a file', () => {
  expectFormat(
    '\n\nlet a = 1\n\n\n\nlet b = 2\ntrain t {\n\n  steps = 3\n\n\n  seed = 4\n\n}\n\n\n',
    'let a = 1\n\nlet b = 2\ntrain t {\n  steps = 3\n\n  seed = 4\n}\n',
  );
});

test('a word with a hyphen is not pulled apart, and a difference is spaced', () => {
  expectFormat('save "a" { from = b  format = kohya-diffusers }', 'save "a" { from = b  format = kohya-diffusers }\n');
  expectFormat('let a = b -c\nlet d = 1-2', 'let a = b - c\nlet d = 1 - 2\n');
});

test('a comma that was probably forgotten can be missed afterwards too', () => {
  expectFormat('resize a { from = b  thr = sweep[-3 -4] }', 'resize a { from = b  thr = sweep [-3 -4] }\n');
  expectFormat('resize a { thr = sweep{low=-3 -4} }', 'resize a { thr = sweep { low=-3 -4 } }\n');
  expectFormat('t y{h=sweep{y=n -t=}}', 't y { h = sweep { y = n -  t= } }\n');
});

test('a variant is written as it is called', () => {
  expectFormat('chop a { from = small [ thr = - 4, dim=8 ] }', 'chop a { from = small[thr=-4, dim=8] }\n');
});

test('signs, powers, calls, choices and brackets are written as in a book', () => {
  expectFormat(
    'let a = - 3.5*( b+ -c ) ** - 2\nlet d = env( "X","y" )\nlet e = raw @ ema( 0.9 )\nlet f = sweep[1,2]',
    'let a = -3.5 * (b + -c) ** -2\nlet d = env("X", "y")\nlet e = raw@ema(0.9)\nlet f = sweep [1, 2]\n',
  );
});

test('arithmetic over several lines goes onto one, and comes to be no path', () => {
  expectFormat('let a =\n  b/c.d\n  * 2', 'let a = b / c.d * 2\n');
});

test('a comma behind what cannot be read stays, since what follows could be read otherwise without it', () => {
  expectFormat('n o{=let,r=}', 'n o { =let,  r= }\n');
});

test('a forgotten quote that would swallow less on another line leaves its block as it is', () => {
  expectFormat('chop a{"}}', 'chop a{"}}\n');
});

test('line ends and a byte order mark stay as they are', () => {
  expect(format('\ufefflet a=1\r\n\r\nlet b=2\r\n').text).toBe('\ufefflet a = 1\r\n\r\nlet b = 2\r\n');
  expect(format('let a=1\r\nlet b=2\r\nlet c=3\n').text).toBe('let a = 1\r\nlet b = 2\r\nlet c = 3\r\n');
  expect(format('let a=1\rlet b=2').text).toBe('let a = 1\nlet b = 2\n');
});

test('nothing is formatted to nothing', () => {
  expect(format('').text).toBe('');
  expect(format(' \n\t\n').text).toBe('');
});

test('an attribute that cannot be read stays as it is, and its neighbours are formatted', () => {
  expect(format('train raw {\n base=pony\n   steps   80\n  seed=4 }')).toEqual({
    text: 'train raw {\n  base=pony\n   steps   80\n  seed = 4\n}\n',
    unreadLines: [3],
  });
  expect(format('train raw {\n base=pony\n   lr : 1e-4,\n  seed=4 }')).toEqual({
    text: 'train raw {\n  base = pony\n  lr : 1e-4\n  seed = 4\n}\n',
    unreadLines: [3],
  });
});

test('a block that is not closed stays as it is up to the next one', () => {
  expect(format('let a=1\ntrain raw {\n base=pony\n\n   # data\n\nresize r{from=raw}')).toEqual({
    text: 'let a = 1\ntrain raw {\n base=pony\n\n   # data\n\nresize r { from = raw }\n',
    unreadLines: [2],
  });
});

test('what stands outside of every block stays as it is', () => {
  expect(format('}  }\nlet  a=1\nsteps=3\nlet  b=2').text).toBe('}  }\nlet a = 1\nsteps=3\nlet b = 2\n');
});

test('ten thousand lines are formatted in well under a second', () => {
  const block = (index: number) => `train t${index} {\n  base=pony\n  data=hero # note\n  steps = 1${index}\n}\n`;
  const text = Array.from({ length: 2000 }, (_, index) => block(index)).join('');
  const start = performance.now();
  expect(format(text).text.split('\n')).toHaveLength(10_001);
  // Generous, for a machine that does other things: alone it takes a quarter of a second.
  expect(performance.now() - start).toBeLessThan(5000);
});
