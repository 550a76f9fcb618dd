// Blocks about LoRAs that are there already: sums, bases, pictures, and what they are saved as.

import { describe, expect, expectTypeOf, test } from 'vitest';
import type { AttributesOf, ProgramPath } from '../../src/parser/model.ts';
import { around, blockOf, compileText, expectProblems, fixAll } from './marked.ts';

const loras = `${around}
lora raw { path = "raw.safetensors"  base = pony }
lora style { path = "style.safetensors"  base = pony }
`;
const baseless = `checkpoint pony { path = "pony.safetensors" }
lora style { path = "style.safetensors" }`;

const errorsOf = (text: string) => compileText(text).diagnostics.map(({ code }) => code);

describe('sums', () => {
  const parts = (from: string, more = '') =>
    blockOf(`${loras}${more} merge both { from = ${from} }`, 'merge').attributes.from.map(({ block, weight }) => [
      block,
      weight,
    ]);

  test('a list gives each part weight 1, a record says the weights', () => {
    expect(parts('[raw, style]')).toEqual([
      ['raw', 1],
      ['style', 1],
    ]);
    expect(parts('{ style = -half / 2  raw = 1.5 }', 'let half = 0.5')).toEqual([
      ['style', -0.25],
      ['raw', 1.5],
    ]);
  });

  test('lets can stand for the whole list and for its items', () => {
    const named = [
      ['style', 1],
      ['raw', 1],
    ];
    expect(parts('all', 'let all = [style, first] let first = raw')).toEqual(named);
    expect(parts('all', 'let all = { style = 1, raw = 1 }')).toEqual(named);
  });

  test('a block that extends another adds to its weights, and changes them', () => {
    const { program, diagnostics } = compileText(
      `${loras} merge one { from = { raw = 1  style = 1 } } merge other extends one { from = { style = 0.5 } }`,
    );
    expect(diagnostics).toEqual([]);
    const other = program?.blocks.at(-1);
    const from = other?.kind === 'merge' ? other.attributes.from : [];
    expect(new Map(from.map(({ block, weight }) => [block, weight]))).toEqual(
      new Map([
        ['raw', 1],
        ['style', 0.5],
      ]),
    );
  });

  test('a part that stands twice, weighs nothing, or is no LoRA is pointed at', () => {
    expectProblems(['duplicate-item'], `${loras} merge m { from = [raw, style, «raw»] }`);
    expectProblems(['duplicate-item'], `${loras} merge m { from = { raw = 1  «raw» = 2 } }`);
    expectProblems(['zero-weight'], `${loras} merge m { from = { raw = 1  style = «1 - 1» } }`);
    expectProblems(['wrong-kind'], `${loras} merge m { from = { raw = 1  «pony» = 2 } }`);
    expectProblems(['wrong-type'], `${loras} merge m { from = { raw = «true» } }`);
    const found = expectProblems(['unknown-name'], `${loras} merge m { from = { raw = 1  «styel» = 1 } }`);
    expect(found[0]?.fix?.text).toBe('style');
  });

  test('a sum of nothing is none', () => {
    expectProblems(['empty-list'], `${loras} merge m { from = «[]» }`);
    expectProblems(['empty-list'], `${loras} merge m { from = «{ }» }`);
    const found = expectProblems(['missing-attribute'], `${loras} «merge m» { }`);
    expect(found[0]?.hint).toBe('Write from = [raw, style]');
  });

  test('other ways to write weights are answered with ours', () => {
    for (const from of [
      '«raw * 0.8 + style»',
      '«"raw:0.8,style:0.5"»',
      '[«raw * 0.8»]',
      '[«"raw:0.8"»]',
      '[«{ raw = 1 }»]',
    ]) {
      const [problem] = expectProblems(['wrong-type'], `${loras} merge m { from = ${from} }`);
      expect(problem?.hint).toBe('Weights stand in one pair of braces: { a = 0.8  b = 0.5 }');
    }
    for (const from of ['«raw»', '«"raw"»']) {
      const [problem] = expectProblems(['wrong-type'], `${loras} merge m { from = ${from} }`);
      expect(problem?.fix?.text).toBe('[raw]');
    }
  });

  test('a sum of itself is a circle, however long the way', () => {
    expectProblems(['cycle'], `${loras} merge m { from = [raw, «m»] }`);
    expectProblems(
      ['cycle'],
      `${loras} merge m { from = { raw = 1  «c» = 1 } } chop c { from = r keep = [OUT01] } resize r { from = m }`,
    );
  });

  test('sums of sums of sums are checked without taking every way through them', () => {
    const levels = Array.from({ length: 200 }, (_, level) => {
      const below = level === 0 ? '[raw, style]' : `[a${level - 1}, b${level - 1}]`;
      return `merge a${level} { from = ${below} } merge b${level} { from = ${below} }`;
    });
    expect(errorsOf(`${loras} ${levels.join('\n')} resize last { from = a199 }`)).toEqual([]);
  });
});

describe('bases', () => {
  test('a resize that compares with a base needs one, and the lora block is where it is missing', () => {
    const found = expectProblems(
      ['no-base'],
      `${baseless.replace('lora style', '«lora style»')} resize a { from = style }`,
    );
    expect(found[0]?.message).toBe('"style" does not say which checkpoint it was trained on, and "a" needs to know.');
    expect(found[0]?.hint).toBe('Write base = pony');
  });

  test.each([
    'resize a { from = style  spn_ckpt = 1 }',
    'resize a { from = style  subspace = 1 }',
    'resize a { from = style  size = 10 }',
    'chop c { from = style keep = [OUT01] } merge m { from = [c] } resize a { from = m }',
    'analyze a { from = style }',
    'preview a { loras = [style]  prompts = "p.txt" }',
  ])('%s asks for it, and making the fix answers it', (asking) => {
    const text = `${baseless}\n${asking}`;
    expect(errorsOf(text)).toEqual(['no-base']);
    const fixed = fixAll(text);
    expect(errorsOf(fixed)).toEqual([]);
    expect(fixed).toContain('lora style { base = pony  path');
  });

  test.each([
    'resize a { from = style  spn_lora = 1 }',
    'resize a { from = style  spn_lora = 1  fro_ckpt = 0 }',
    'resize a { from = style  max_rank = 4 }',
    'chop a { from = style  keep = [OUT01] }',
    'merge a { from = [style] }',
    'save "a.safetensors" { from = style }',
    'analyze a { from = style  base = pony }',
    'preview a { loras = [style]  base = pony  prompts = "p.txt" }',
  ])('%s does not', (asking) => {
    expect(errorsOf(`${baseless}\n${asking}`)).toEqual([]);
  });

  test('all who ask are named in one complaint', () => {
    const { diagnostics } = compileText(`${baseless} resize a { from = style } analyze b { from = a }`);
    expect(diagnostics.map(({ message }) => message)).toEqual([
      '"style" does not say which checkpoint it was trained on, and "a" and "b" need to know.',
    ]);
    expect(diagnostics[0]?.related).toHaveLength(2);
  });

  test('where there are several checkpoints, or none, nothing is guessed', () => {
    const two = compileText(`${baseless} checkpoint other { path = "o.safetensors" } resize a { from = style }`);
    expect(two.diagnostics.map(({ hint, fix }) => [hint, fix])).toEqual([
      ['Write base = …, which is pony or other', undefined],
    ]);
    const none = compileText('lora style { path = "s.safetensors" } resize a { from = style }');
    expect(none.diagnostics[0]?.hint).toContain('Add a block, checkpoint base { path = "…" }');
  });

  test('a merge has the base of those of its parts that have one', () => {
    const text = `${baseless} lora raw { path = "r.safetensors" base = pony } merge m { from = [style, raw] }`;
    expect(errorsOf(`${text} resize a { from = m }`)).toEqual([]);
  });

  test('what is wrong with a block is not also said of the base that it would have had', () => {
    expect(errorsOf(`${baseless} chop c { from = nobody keep = [OUT01] } resize a { from = c }`)).toEqual([
      'unknown-name',
    ]);
    expect(errorsOf('lora l { path = "l.safetensors" base = nobody } resize a { from = l }')).toEqual(['unknown-name']);
  });

  const twoBases = `${loras} checkpoint other { path = "o.safetensors" } lora far { path = "f.safetensors" base = other }`;

  test('a preview of LoRAs of two checkpoints has to say which one renders', () => {
    expectProblems(['two-bases'], `${twoBases} preview p { loras = «[raw, far]»  prompts = "p.txt" }`);
    expect(errorsOf(`${twoBases} preview p { loras = [raw, far]  base = pony  prompts = "p.txt" }`)).toEqual([]);
  });

  test('a merge of LoRAs of two checkpoints is warned of, and built', () => {
    const { program, diagnostics } = compileText(`${twoBases} merge m { from = [raw, far] }`);
    expect(diagnostics.map(({ code, severity }) => [code, severity])).toEqual([['merged-bases', 'warning']]);
    expect(diagnostics[0]?.hint).toBe('Where a base is asked for, it is "other".');
    expect(program).toBeDefined();
  });
});

describe('pictures', () => {
  test('a preview has one column at least, and none twice', () => {
    const preview = (attributes: string) => `${loras} preview p { prompts = "p.txt"  ${attributes} }`;
    expectProblems(['empty-list'], preview('loras = «[]»'));
    expectProblems(['empty-list'], preview('loras = [raw] strengths = «[]»'));
    expectProblems(['duplicate-item'], preview('loras = [raw, «raw»]'));
    expectProblems(['duplicate-item'], preview('loras = [raw] strengths = [0.5, 1, «1 / 2»]'));
    const found = expectProblems(['zero-strength'], preview('loras = [raw] strengths = «[0, 1]»'));
    expect(found[0]?.hint).toContain('without = true');
    expect(found[0]?.message).toBe('At strength 0 a LoRA does nothing.');
    expectProblems(['wrong-kind'], preview('loras = [raw, «p»]'));
  });

  test('one in place of a list is told how to become one', () => {
    const { diagnostics } = compileText(`${loras} preview p { loras = raw  strengths = 0.8  prompts = "p.txt" }`);
    expect(diagnostics.map(({ fix }) => fix?.text)).toEqual(['[raw]', '[0.8]']);
  });

  test('are saved as PNG, and LoRAs are not', () => {
    const made = `${loras} preview p { loras = [raw] prompts = "p.txt" } analyze a { from = raw prompts = "p.txt" }`;
    expect(errorsOf(`${made} save "p.png" { from = p } save "a.PNG" { from = a }`)).toEqual([]);
    const [jpeg] = expectProblems(['save-path'], `${made} «save "p.jpg"» { from = p }`);
    expect(jpeg?.hint).toBe('Write "p.png"');
    const [lora] = expectProblems(['save-path'], `${made} «save "p.png"» { from = raw }`);
    expect(lora?.hint).toBe('Write "p.safetensors"');
    expectProblems(['format-of-picture'], `${made} save "p.png" { from = p  format = «kohya» }`);
  });

  test('of an analysis that renders none cannot be saved', () => {
    const found = expectProblems(['no-picture'], `${loras} analyze a { from = raw } save "a.png" { from = «a» }`);
    expect(found[0]?.related[0]?.message).toBe('"a" is defined here');
  });

  test('where it is unknown what is saved, its suffix is not judged', () => {
    expect(errorsOf(`${loras} save "p.png" { from = nobody } save "p.safetensors" { from = nothing }`)).toEqual([
      'unknown-name',
      'unknown-name',
    ]);
  });
});

describe('words', () => {
  test('a format with a dash is a word', () => {
    const save = (format: string, more = '') =>
      blockOf(`${loras}${more} save "a.safetensors" { from = raw  format = ${format} }`, 'save').attributes.format;
    expect(save('kohya-diffusers')).toBe('kohya-diffusers');
    expect(save('how', 'let how = kohya-diffusers')).toBe('kohya-diffusers');
    expect(save('comfyui')).toBe('comfyui');
    const set = (value: string, usually: string) =>
      blockOf(`${loras} param how = ${usually} save "a.safetensors" { from = raw  format = how }`, 'save', {
        how: value,
      }).attributes.format;
    expect(set('kohya-diffusers', 'kohya')).toBe('kohya-diffusers');
    expect(set('diffusers', 'kohya-diffusers')).toBe('diffusers');
    const found = expectProblems(
      ['wrong-type'],
      `${loras} save "a.safetensors" { from = raw  format = «"kohya-diffusers"» }`,
    );
    expect(found[0]?.fix?.text).toBe('kohya-diffusers');
  });

  test('layers of text encoders stand with and without quotes, and as keys', () => {
    const chop = (attributes: string) => blockOf(`${loras} chop c { from = raw  ${attributes} }`, 'chop').attributes;
    expect(chop('keep = [TE1.3, "te1.3", "TE2.1*", OUT01]').keep).toEqual(['TE1.3', 'te1.3', 'TE2.1*', 'OUT01']);
    expect(chop('weights = { TE1.3 = 0.5, TE2.31 = -1 }').weights).toEqual({ 'TE1.3': 0.5, 'TE2.31': -1 });
    expectProblems(['unknown-block'], `${loras} chop c { from = raw  keep = [«TE1.12»] }`);
    expectProblems(['unknown-block'], `${loras} chop c { from = raw  weights = { «TE2.32» = 1 } }`);
  });

  test('a pickled LoRA is refused as a pickled checkpoint is', () => {
    expectProblems(['pickled-file'], 'lora l { path = «"hero.pt"» }');
  });

  test('checked blocks have the types that the graph reads', () => {
    expectTypeOf<AttributesOf<'merge'>['from'][number]>().toExtend<{ block: string; weight: number }>();
    expectTypeOf<AttributesOf<'preview'>['strengths']>().toEqualTypeOf<readonly number[]>();
    expectTypeOf<AttributesOf<'analyze'>['prompts']>().toEqualTypeOf<ProgramPath | undefined>();
    expectTypeOf<AttributesOf<'resize'>['extract']>().toEqualTypeOf<number | undefined>();
  });
});

describe('keys in quotes', () => {
  const weights = (text: string) =>
    blockOf(`${loras} chop a { from = raw  weights = { ${text} } }`, 'chop').attributes.weights;

  test('patterns can be weighed, in either kind of quotes, among keys without', () => {
    expect(weights('IN = 0.5  "TE2.1*" = 1, \'OUT0*\' = 2')).toEqual({ IN: 0.5, 'TE2.1*': 1, 'OUT0*': 2 });
  });

  test('a key means the same with and without quotes, and one block twice is told', () => {
    expect(weights('"OUT01" = 0.5')).toEqual(weights('OUT01 = 0.5'));
    expect(errorsOf(`${loras} chop a { from = raw  weights = { OUT01 = 1  "OUT01" = 0 } }`)).toEqual([
      'duplicate-attribute',
    ]);
    expect(blockOf(`${loras} chop a { "from" = raw  'keep' = [OUT01] }`, 'chop').attributes.keep).toEqual(['OUT01']);
  });

  test('a pattern that fits no block is told, and text as a value is no key', () => {
    expect(errorsOf(`${loras} chop a { from = raw  weights = { "XX*" = 1 } }`)).toEqual(['unknown-block']);
    expect(errorsOf(`${loras} chop a { from = raw  mask = "SDXL-LyC-OUTALL" = 3 }`)).not.toEqual([]);
    expect(compileText('let a = "b"  lora c { path = "d" }').diagnostics).toEqual([]);
  });

  test('a key is text as it stands: nothing is put into it', () => {
    expect(errorsOf(`${loras} let n = 1 chop a { from = raw  weights = { "OUT0\${n}" = 1 } }`)).not.toEqual([]);
  });
});
