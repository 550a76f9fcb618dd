// `sweep`: one place with several values, of which each makes a variant of what depends on it.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { referencesOf } from '../../src/parser/checking/order.ts';
import type { CheckedBlock } from '../../src/parser/model.ts';
import { nameOfReference } from '../../src/parser/model.ts';
import { schema } from '../../src/parser/schema/schema.ts';
import { mostVariants } from '../../src/parser/sweeps/variants.ts';
import { around, compileText, expectProblems, fixAll, hintsOf } from './marked.ts';

const trained = `${around} train raw { base = pony  data = hero }`;
const errorsOf = (text: string) => compileText(text).diagnostics.map(({ code }) => code);

function blocksOf(text: string, params: { readonly [name: string]: string } = {}): readonly CheckedBlock[] {
  const { program, diagnostics } = compileText(text, params);
  expect(diagnostics).toEqual([]);
  return program?.blocks ?? [];
}

/** The names of the blocks of one kind. */
const namesOf = (kind: string, text: string) =>
  blocksOf(text).flatMap((block) => (block.kind === kind ? [block.name] : []));

/** What each block is made from. */
const madeFrom = (kind: string, text: string) =>
  blocksOf(text).flatMap((block) => (block.kind === kind ? [referencesOf(block).map(nameOfReference)] : []));

describe('variants', () => {
  test('each value makes one, called by the value as it is written, of the block and of what is made from it', () => {
    const text = `${trained} resize small { from = raw  thr = sweep [-3.0, -3.55, -4] }
      chop tiny { from = small  keep = [OUT01] }`;
    expect(namesOf('resize', text)).toEqual(['small[thr=-3.0]', 'small[thr=-3.55]', 'small[thr=-4]']);
    expect(namesOf('chop', text)).toEqual(['tiny[thr=-3.0]', 'tiny[thr=-3.55]', 'tiny[thr=-4]']);
    expect(madeFrom('chop', text)).toEqual([['small[thr=-3.0]'], ['small[thr=-3.55]'], ['small[thr=-4]']]);
    const thresholds = blocksOf(text).flatMap((block) => (block.kind === 'resize' ? [block.attributes.thr] : []));
    expect(thresholds).toEqual([-3, -3.55, -4]);
  });

  test('sweeps multiply: those of a block, of its records, and of what it is made from', () => {
    const text = `${around} train raw { base = pony  data = hero  network = locon { dim = sweep [4, 8] } }
      resize small { from = raw  thr = sweep [-3, -4]  max_rank = sweep [2, 3] }`;
    expect(namesOf('train', text)).toEqual(['raw[dim=4]', 'raw[dim=8]']);
    expect(namesOf('resize', text)).toHaveLength(8);
    expect(namesOf('resize', text)[0]).toBe('small[dim=4,thr=-3,max_rank=2]');
    expect(namesOf('resize', text)[7]).toBe('small[dim=8,thr=-4,max_rank=3]');
  });

  test('a sweep that is reached along two ways is one', () => {
    const diamond = `${trained} resize small { from = raw  thr = sweep [-3, -4] }
      chop left { from = small  keep = [OUT01] }
      chop right { from = small  drop = [OUT01] }
      merge both { from = [left, right] }`;
    expect(madeFrom('merge', diamond)).toEqual([
      ['left[thr=-3]', 'right[thr=-3]'],
      ['left[thr=-4]', 'right[thr=-4]'],
    ]);
  });

  test('a let varies together all that uses it, and two sweeps of one name are two', () => {
    const one = `${trained} let t = sweep [-3, -4] resize a { from = raw  thr = t } resize b { from = a  thr = t - 1 }`;
    expect(madeFrom('resize', one).slice(2)).toEqual([['a[t=-3]'], ['a[t=-4]']]);
    const two = `${trained} resize a { from = raw  thr = sweep [-3, -4] } resize b { from = a  thr = sweep [-5, -6] }`;
    expect(namesOf('resize', two).slice(2)).toEqual([
      ...['b[a.thr=-3,b.thr=-5]', 'b[a.thr=-3,b.thr=-6]', 'b[a.thr=-4,b.thr=-5]', 'b[a.thr=-4,b.thr=-6]'],
    ]);
  });

  test('values with names give these to the variants', () => {
    const text = `${around} train raw { base = pony  data = hero  unet_lr = sweep { gentle = 1e-4  strong = 3e-4 } }`;
    expect(namesOf('train', text)).toEqual(['raw[unet_lr=gentle]', 'raw[unet_lr=strong]']);
  });

  test('what is inherited with extends varies with what it comes from, and what replaces it does not vary', () => {
    const text = `${around} train a { base = pony  data = hero  seed = sweep [1, 2]  steps = sweep [10, 20] }
      train b extends a { steps = 30 }`;
    expect(namesOf('train', text).slice(4)).toEqual(['b[seed=1]', 'b[seed=2]']);
    const replaced = `${around} train a { base = pony  data = hero  network = sweep { a = locon { dim = 4 }  b = locon } }
      train c extends a { network = sweep { c = locon  d = locon { dim = 2 } } }`;
    expect(namesOf('train', replaced).slice(2)).toEqual(['c[network=c]', 'c[network=d]']);
  });

  test('a value can bring a sweep of its own', () => {
    const text = `${trained} let strong = sweep [-3, -4] resize a { from = raw  thr = sweep { strong = strong  none = -9 } }`;
    expect(namesOf('resize', text)).toEqual(['a[thr=strong,strong=-3]', 'a[thr=strong,strong=-4]', 'a[thr=none]']);
    const blocks = `${trained} resize a { from = raw  thr = sweep [-3, -4] } chop c { from = sweep [raw, a]  keep = [OUT] }`;
    expect(namesOf('chop', blocks)).toEqual(['c[from=raw]', 'c[from=a,thr=-3]', 'c[from=a,thr=-4]']);
  });

  test('a preview shows all variants side by side; a merge is made once for each', () => {
    const text = `${trained} resize small { from = raw  thr = sweep [-3, -4] }
      preview grid { loras = [raw, small]  prompts = "p.txt" }
      merge both { from = { raw = 0.5  small = 0.5 } }`;
    expect(madeFrom('preview', text)).toEqual([['raw', 'small[thr=-3]', 'small[thr=-4]']]);
    expect(namesOf('merge', text)).toEqual(['both[thr=-3]', 'both[thr=-4]']);
  });

  test('a preview that varies itself shows what belongs to its variant', () => {
    const text = `${trained} let t = sweep [-3, -4] resize small { from = raw  thr = t }
      preview grid { loras = [raw, small]  prompts = "\${t}.txt" }`;
    expect(madeFrom('preview', text)).toEqual([
      ['raw', 'small[t=-3]'],
      ['raw', 'small[t=-4]'],
    ]);
  });

  test('a preview of which a variant has nothing to show is not made in that variant', () => {
    const text = `${trained} let t = sweep [-3, -4] resize small { from = raw  thr = t  exclude = [{ t = -3 }] }
      preview grid { loras = [small]  prompts = "\${t}.txt" }`;
    expect(namesOf('preview', text)).toEqual(['grid[t=-4]']);
  });

  test('a param takes one value or a sweep from the command line, typed by the values of its default', () => {
    const text = `${trained} param t = sweep [-3, -4] resize small { from = raw  thr = t }`;
    const names = (value: string) =>
      blocksOf(text, { t: value })
        .slice(3)
        .map(({ name }) => name);
    expect(names('-5')).toEqual(['small']);
    expect(names('sweep [-5, -6, -7]')).toEqual(['small[t=-5]', 'small[t=-6]', 'small[t=-7]']);
    expect(compileText(text, { t: 'kohya' }).diagnostics.map(({ code }) => code)).toEqual(['param-kind']);
    const plain = `${trained} param t = -3 resize small { from = raw  thr = t }`;
    expect(compileText(plain, { t: 'sweep [-5, -6]' }).program?.blocks).toHaveLength(5);
    expect(compileText(plain, { t: 'sweep ["x", -6]' }).diagnostics.map(({ code }) => code)).toEqual(['param-kind']);
  });
});

describe('one variant', () => {
  const swept = `${around} train raw { base = pony  data = hero  network = locon { dim = sweep [4, 8] } }
    resize small { from = raw  thr = sweep [-3, -4] }`;

  test('is named by values, all of them or some; these settle their sweeps', () => {
    const all = `${swept} chop tiny { from = small[dim=8, thr=-4]  keep = [OUT01] }`;
    expect([namesOf('chop', all), madeFrom('chop', all)]).toEqual([['tiny'], [['small[dim=8,thr=-4]']]]);
    const some = `${swept} chop tiny { from = small[thr=-4.0]  keep = [OUT01] }`;
    expect(namesOf('chop', some)).toEqual(['tiny[dim=4]', 'tiny[dim=8]']);
    expect(madeFrom('chop', some)).toEqual([['small[dim=4,thr=-4]'], ['small[dim=8,thr=-4]']]);
  });

  test('two variants of one block can be merged, a step of one can be taken, and a let can name one', () => {
    const text = `${swept} let wide = raw[dim=8]  merge both { from = { wide = 0.5  small = 1 } }
      merge steps { from = [raw[dim=4]@40, raw[dim=8]@40] }`;
    expect(madeFrom('merge', text)[0]).toEqual(['raw[dim=8]', 'small[dim=4,thr=-3]']);
    expect(madeFrom('merge', text).at(-1)).toEqual(['raw[dim=4]@40', 'raw[dim=8]@40']);
  });

  test('what names none says which there are', () => {
    expectProblems(['unknown-sweep'], `${swept} chop a { from = small[«tr»=-4]  keep = [OUT01] }`);
    expectProblems(['unknown-swept-value'], `${swept} chop a { from = small[thr=«-5»]  keep = [OUT01] }`);
    expectProblems(
      ['unknown-sweep'],
      `${swept} chop a { from = hero2[«dim»=4]  keep = [OUT] } lora hero2 { path = "a.safetensors" }`,
    );
    expectProblems(['pick-without-name'], `${swept} chop a { from = «small[-4]»  keep = [OUT01] }`);
    expectProblems(['duplicate-item'], `${swept} preview p { loras = [raw, «raw[dim=8]»]  prompts = "p.txt" }`);
    expectProblems(['key-in-list'], `${swept} chop a { from = small  keep = [«a» = OUT01] }`);
    const left = `${swept.replace('dim = sweep [4, 8] }', '$&  exclude = [{ dim = 4 }]')} chop a { from = «raw[dim=4]»  keep = [OUT] }`;
    expectProblems(['excluded-variant'], left);
  });
});

describe('exclude', () => {
  const swept = (exclude: string) => `${around}
    train raw { base = pony  data = hero  seed = sweep [1, 2] }
    resize small { from = raw  thr = sweep [-3, -4]  exclude = ${exclude} }
    chop tiny { from = small  keep = [OUT01] }`;

  test('leaves out combinations, and what is made from them', () => {
    const text = swept('[{ seed = 1  thr = -3 }]');
    expect(namesOf('resize', text)).toEqual(['small[seed=1,thr=-4]', 'small[seed=2,thr=-3]', 'small[seed=2,thr=-4]']);
    expect(namesOf('chop', text)).toHaveLength(3);
    expect(namesOf('chop', swept('[{ seed = 1  thr = -3 }, { seed = 2 }]'))).toEqual(['tiny[seed=1,thr=-4]']);
  });

  test('two values that do not go together are no mistake once they are left out, and the hint says so', () => {
    const clash = (exclude: string) =>
      `${trained} resize small { from = raw  min_rank = sweep [2, 8]  max_rank = sweep [4, 16]  ${exclude} }`;
    expect(errorsOf(clash(''))).toEqual(['rank-order']);
    expect(hintsOf(clash(''))[0]).toContain('exclude = [{ max_rank = 4  min_rank = 8 }]');
    expect(namesOf('resize', clash('exclude = [{ min_rank = 8  max_rank = 4 }]'))).toHaveLength(3);
  });

  test('complains of names and values that there are not, and when nothing is left', () => {
    expect(errorsOf(swept('[{ seeds = 1 }]'))).toEqual(['unknown-sweep']);
    expect(fixAll(swept('[{ seeds = 1 }]'))).toContain('{ seed = 1 }');
    expect(errorsOf(swept('[{ seed = 3 }]'))).toEqual(['unknown-swept-value']);
    expect(errorsOf(swept('[{ seed = 1 }, { seed = 2 }]'))).toEqual(['nothing-left']);
    for (const odd of ['[]', '[-3]', '{ seed = 1 }', '[{}]', '"seed"', '[SAVEUS { seed = 1 }]']) {
      expect(errorsOf(swept(odd)), odd).toEqual(odd === '[]' ? [] : ['odd-exclude']);
    }
  });

  test('says nothing of sweeps where what a block is made from is wrong', () => {
    const text = `${around} train raw { base = pony  seed = sweep [1, 2] } resize a { from = raw  exclude = [{ seed = 1 }] }`;
    expect(errorsOf(text)).toEqual(['missing-attribute']);
  });

  test('two sweeps of one name have to be told apart', () => {
    const text = (name: string) => `${trained} resize a { from = raw  thr = sweep [-3, -4] }
      resize b { from = a  thr = sweep [-3, -4]  exclude = [{ ${name} = -3 }] }`;
    expect(errorsOf(text('thr'))).toEqual(['unknown-sweep']);
    expect(hintsOf(text('thr'))[0]).toContain('a.thr and b.thr');
    expect(namesOf('resize', text('a.thr')).slice(2)).toEqual(['b[a.thr=-4,b.thr=-3]', 'b[a.thr=-4,b.thr=-4]']);
  });
});

describe('paths', () => {
  const swept = `${trained} let t = sweep [-3.0, -4] resize small { from = raw  thr = t  max_rank = sweep { few = 2  many = 9 } }`;

  test('can have the value in them, as it is written or under its name', () => {
    const text = `${swept} save "a\${t}-\${small.max_rank}.safetensors" { from = small }`;
    expect(namesOf('save', text)).toEqual([
      ...['a-3.0-few.safetensors', 'a-3.0-many.safetensors', 'a-4-few.safetensors', 'a-4-many.safetensors'],
    ]);
    expect(madeFrom('save', text)[1]).toEqual(['small[t=-3.0,max_rank=many]']);
  });

  test('what a block says of anything can stand in text, also deep inside, and what does not vary', () => {
    const text = `${around} train raw { base = pony  data = hero  network = locon { dim = sweep [4, 8] }  seed = 7 }
      save "a\${raw.network.dim}s\${raw.seed}.safetensors" { from = raw }`;
    expect(namesOf('save', text)).toEqual(['a4s7.safetensors', 'a8s7.safetensors']);
    expectProblems(['unknown-name'], `${trained} save "a\${«raw.sed»}.safetensors" { from = raw }`);
  });

  test('that are the same name the variants, and the fix tells them apart', () => {
    const same = `${swept} «save "a.safetensors"» { from = small }`;
    const [found] = expectProblems(['same-path'], same);
    expect(found?.message).toContain('"small[t=-3.0,max_rank=few]"');
    const fixed = fixAll(same.replaceAll(/[«»]/g, ''));
    expect(fixed).toContain(`save "a-\${t}-\${small.max_rank}.safetensors"`);
    expect(namesOf('save', fixed)).toHaveLength(4);
    expect(errorsOf(`${swept} save "a\${t}.safetensors" { from = small[max_rank=few] }`)).toEqual([]);
  });

  test('that promise other values than what is saved has are warned of', () => {
    const [found] = expectProblems(
      ['saved-again'],
      `${swept} preview p { loras = [small]  prompts = "p.txt" } «save "a\${t}.safetensors"» { from = raw }`,
    );
    expect(found?.message).toContain('"raw" is saved 2 times');
    expect(errorsOf(`${swept} save "a\${t}.safetensors" { from = small[t=-4, max_rank=few] }`)).toEqual([
      'saved-again',
    ]);
  });

  test('with slashes from a value are none', () => {
    const text = `checkpoint c { path = sweep ["a/x.safetensors", "b/x.safetensors"] } dataset d { images = "i" }
      train raw { base = c  data = d } save "o-\${«c.path»}.safetensors" { from = raw }`;
    expectProblems(['slash-in-path'], text);
  });
});

describe('what is no sweep', () => {
  test.each([
    ['inside a list', 'keep = [OUT01, «sweep [OUT02, OUT03]»]'],
    ['in arithmetic', 'keep = [OUT01]  text_encoders = 1 - «sweep [0.1, 0.2]»'],
    ['in exclude', 'keep = [OUT01]  exclude = [{ a = «sweep [1, 2]» }]'],
    ['in a sweep', 'keep = sweep { a = «sweep [1, 2]»  b = [OUT01] }'],
  ])('%s', (_place, attributes) => {
    const text = `${trained} chop tiny { from = raw  ${attributes} }`;
    const plain = text.replaceAll(/[«»]/g, '');
    const { diagnostics } = compileText(plain);
    const { start = 0, end = 0 } = diagnostics.find(({ code }) => code === 'misplaced-sweep')?.span ?? {};
    expect(plain.slice(start, end)).toBe(/«(.*)»/.exec(text)?.[1]);
  });

  test('without values, with one, with the same twice', () => {
    const chop = (text: string) => `${trained} chop tiny { from = raw  keep = [OUT01]  text_encoders = ${text} }`;
    expectProblems(['empty-sweep'], chop('«sweep []»'));
    expectProblems(['sweep-of-one'], chop('«sweep [1]»'));
    expectProblems(['swept-twice'], chop('sweep [0.5, keep, «.5»]'));
    expect(errorsOf(chop('sweep { a = 1  a = 2 }'))).toEqual(['swept-twice']);
  });

  test('what was probably meant as one says how it is written', () => {
    const resize = (thr: string) => `${trained} resize small { from = raw  thr = ${thr} }`;
    const twoOf = (thr: string) => namesOf('resize', fixAll(resize(thr)));
    expect(twoOf('sweep [-3 -4]')).toEqual(['small[thr=-3]', 'small[thr=-4]']);
    expect(twoOf('Sweep [-3, -4]')).toEqual(['small[thr=-3]', 'small[thr=-4]']);
    expect(hintsOf(resize('[-3, -4]'))).toEqual(['Write sweep [-3, -4] to have it made once for each.']);
    for (const odd of ['sweep', 'sweep (-3, -4)', 'sweep []']) {
      expect(hintsOf(resize(odd)), odd).toEqual(['The values of a sweep stand in brackets: sweep [-3, -3.5, -4]']);
    }
  });

  test('values that no name can be made of get the names to write', () => {
    const text = `${trained} chop tiny { from = raw  keep = sweep [[OUT01], [OUT01, MID]] }`;
    expect(errorsOf(text)).toEqual(['nameless-value']);
    expect(namesOf('chop', fixAll(text))).toEqual(['tiny[keep=first]', 'tiny[keep=second]']);
  });

  test('each value is checked by itself, at its own place', () => {
    expectProblems(
      ['wrong-type', 'out-of-range'],
      `${trained} resize a { from = raw  max_rank = sweep [4, «"8"», «0.5»] }`,
    );
    expectProblems(['wrong-type'], `${trained} let t = sweep [4, «"8"»] resize a { from = raw  max_rank = t }`);
  });
});

test('more variants than anyone looks at are a mistake and no hang', () => {
  const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1).join(', ');
  const text = (count: number) => `${trained} resize a { from = raw  max_rank = sweep [${numbers(count)}] }`;
  expect(namesOf('resize', text(mostVariants))).toHaveLength(mostVariants);
  expect(errorsOf(text(mostVariants + 1))).toEqual(['too-many-variants']);
  const chain = `${text(100)} resize b { from = a  min_rank = sweep [${numbers(100)}] }`;
  expect(errorsOf(chain)).toEqual(['too-many-variants']);
});

test('all blocks together have at most so many variants, and blocks without any do not count', () => {
  const numbers = Array.from({ length: mostVariants }, (_, index) => index + 1).join(', ');
  const chops = Array.from({ length: 11 }, (_, index) => `chop c${index} { from = a  keep = [OUT01] }`).join('\n');
  const swept = `${trained} resize a { from = raw  max_rank = sweep [${numbers}] } ${chops}`;
  expect(errorsOf(swept)).toEqual(['too-many-variants']);
  const plain = Array.from({ length: 10_100 }, (_, index) => `lora l${index} { path = "l.safetensors" }`).join('\n');
  expect(errorsOf(plain)).toEqual([]);
});

test('several thresholds as lorac resize takes them are no quotient', () => {
  const text = `${trained} resize small { from = raw  thr = «-3/-3.5» }`;
  expectProblems(['quotient-for-sweep'], text);
  expect(namesOf('resize', fixAll(text.replaceAll(/[«»]/g, '')))).toEqual(['small[thr=-3]', 'small[thr=-3.5]']);
  expect(errorsOf(`${trained} resize small { from = raw  thr = -7 / 2 }`)).toEqual([]);
});

test('circles through sweeps are found, of lets and of blocks', () => {
  expect(errorsOf(`${trained} let a = sweep [b, 1] let b = sweep [a, 2] resize c { from = raw  thr = a }`)).toEqual([
    'cycle',
  ]);
  expect(
    errorsOf('lora x { path = "x.safetensors" } resize a { from = sweep [x, b] spn_lora = 1 } resize b { from = a }'),
  ).toContain('cycle');
});

test('no word of the language is in the way of sweep and exclude', () => {
  const text = JSON.stringify(schema, (key, value) => (key === 'synonyms' ? [] : value));
  expect(text).not.toContain('"sweep"');
  expect(text).not.toContain('"exclude":');
});

test('every variant is the block with that value written plainly', () => {
  const values = fc.uniqueArray(fc.integer({ min: -9, max: 9 }), { minLength: 2, maxLength: 4 });
  fc.assert(
    fc.property(values, values, fc.nat(), fc.nat(), (some, others, one, other) => {
      const program = (thr: string, seed: string) =>
        `${around} train raw { base = pony  data = hero  seed = ${seed} } resize small { from = raw  thr = ${thr} }`;
      const seeds = others.map((value) => value + 10);
      const [thr, seed] = [some[one % some.length], seeds[other % seeds.length]];
      const swept = blocksOf(program(`sweep [${some}]`, `sweep [${seeds}]`));
      const [raw, small] = blocksOf(program(`${thr}`, `${seed}`)).slice(2);
      const plain = (value: unknown) =>
        JSON.stringify(value, (key, inner) =>
          ['span', 'attributeSpans', 'variant'].includes(key) ? undefined : inner,
        );
      const named = (name: string) => swept.find((block) => block.name === name);
      const fitting = { ...named(`small[seed=${seed},thr=${thr}]`), name: 'small' };
      expect(plain({ ...named(`raw[seed=${seed}]`), name: 'raw' })).toBe(plain(raw));
      expect(plain(fitting).replace(`raw[seed=${seed}]`, 'raw')).toBe(plain(small));
    }),
    { numRuns: 40 },
  );
});
