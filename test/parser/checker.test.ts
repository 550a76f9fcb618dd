// What a program means: names, blocks, attributes, and what depends on each other.

import { describe, expect, test } from 'vitest';
import { around, blockOf, compileText, expectProblems, hintsOf, trainWith } from './marked.ts';

const trained = trainWith('');

describe('names', () => {
  test('an argument of the wrong kind is pointed at', () => {
    expectProblems(
      ['wrong-kind'],
      `checkpoint pony { path = "pony.safetensors" }
       resize thin { from = «pony»  thr = -3.5 }`,
    );
  });

  test('an unknown block is pointed at, and one with a similar name offered', () => {
    const found = expectProblems(['unknown-name'], `${around} train raw { base = «ponny» data = hero }`);
    expect(found[0]?.hint).toBe('There is one with a similar name: pony');
  });

  test('a name that two blocks have is shown twice', () => {
    const found = expectProblems(['duplicate-name'], `${around} dataset «pony» { images = "x" }`);
    expect(found[0]?.related.map(({ message }) => message)).toEqual(['"pony" is first defined here']);
  });

  test('a let and a param share one set of names', () => {
    expectProblems(['duplicate-name'], `let a = 1 param «a» = 2 ${around}`);
  });

  test('a let can stand for a block, a word, a list or a record', () => {
    const { attributes } = blockOf(
      `${around} let model = pony let how = fp32 let net = locon { dim = 2 }
       train raw { base = model data = hero mixed_precision = how network = net }`,
      'train',
    );
    expect(attributes.base.block).toBe('pony');
    expect(attributes.mixed_precision).toBe('fp32');
    expect(attributes.network).toMatchObject({ kind: 'locon', dim: 2 });
  });

  test('a block of an unknown kind complains about nothing further', () => {
    expectProblems(
      ['unknown-kind'],
      `«chekpoint» pony { pth = 3 } dataset hero { images = "a" } train raw { base = pony data = hero }`,
    );
  });

  test('one wrong name does not hide the others', () => {
    expectProblems(
      ['unknown-name', 'unknown-name', 'unknown-name'],
      `train raw { base = «a» data = «b» } resize s { from = «c» }`,
    );
  });
});

describe('circles', () => {
  test('two resizes of each other are told once, with both places', () => {
    const found = expectProblems(['cycle'], 'resize a { from = «b» }\nresize b { from = a }');
    expect(found[0]?.message).toBe('These are made from each other: "a" → "b" → "a".');
    expect(found[0]?.related).toHaveLength(1);
  });

  test('a block made from itself', () => {
    const found = expectProblems(['cycle'], 'resize a { from = «a» }');
    expect(found[0]?.message).toBe('"a" is made from itself.');
  });

  test('what hangs on a circle is not part of it', () => {
    expectProblems(
      ['cycle'],
      'resize x { from = a } resize a { from = «b» } resize b { from = a } save "a.safetensors" { from = x }',
    );
  });

  test('lets of each other', () => {
    expectProblems(['cycle'], trainWith('seed = a', 'let a = «b» let b = a'));
  });

  test('blocks that extend each other', () => {
    const { diagnostics } = compileText(
      `${trained} resize a extends b { from = raw } resize b extends a { from = raw }`,
    );
    expect(diagnostics.map(({ code }) => code)).toEqual(['cycle', 'cycle']);
  });
});

describe('attributes', () => {
  test('that are missing are named with what they are for', () => {
    const found = expectProblems(
      ['missing-attribute', 'missing-attribute'],
      `${around} «train raw» { } `.replace('«train raw»', '««train raw»»'),
    );
    expect(found[0]?.message).toBe('The train block "raw" has no "base". The checkpoint to train on.');
    expect(found.map(({ hint }) => hint)).toEqual(['Write base = pony', 'Write data = hero']);
  });

  test('inside a record as well', () => {
    expectProblems(['missing-attribute'], trainWith('sample = «{ every = 5 }»'));
  });

  test('written twice are shown twice', () => {
    expectProblems(['duplicate-attribute'], trainWith('seed = 1 «seed» = 2'));
  });

  test('misspelt are recognised', () => {
    const found = expectProblems(['unknown-attribute'], trainWith('«stpes» = 3'));
    expect(found[0]?.hint).toBe('There is one with a similar name: steps');
  });

  test('of other trainers are recognised, wherever they belong', () => {
    const words = `learning_rate = 1e-3
      network_dim = 16
      max_train_steps = 8
      resolution = 512x512
      num_cycles = 1
      cache_latents = true
      min_bucket_reso = 128
      output_name = "x"
      thr = 3`;
    expect(hintsOf(trainWith(words))).toMatchInlineSnapshot(`
      [
        "It is called unet_lr here.",
        "Write network = locon { dim = 16 }",
        "It is called steps here.",
        "It belongs into a dataset block.",
        "Write lr_scheduler = cosine { num_cycles = 1 }",
        "Latents are always cached.",
        "It belongs into a dataset block: bucket = { min = 128 }",
        "A save block names the whole path: save "folder/name.safetensors" { from = … }.",
        "It belongs into a resize block.",
      ]
    `);
  });

  test('that are nothing anywhere get the list of what there is', () => {
    expect(hintsOf(`${trained} save "a.safetensors" { from = raw colour = 3 }`)).toEqual([
      'It has: from, format, overwrite.',
    ]);
  });

  test('under another name are not missing as well', () => {
    expectProblems(['unknown-attribute'], `${trained} resize small { «lora» = raw }`);
  });
});

describe('extends', () => {
  const base = trainWith(
    'steps = 10 network = locon { dim = 2 conv_dim = 3 } optimizer = SAVEUS { betas = [0.5, 0.6] eps = 1 }',
  );
  const extended = (attributes: string) => {
    const { program, diagnostics } = compileText(`${base} train more extends raw { ${attributes} }`);
    expect(diagnostics).toEqual([]);
    const block = program?.blocks.find(({ name }) => name === 'more');
    if (block?.kind !== 'train') throw new Error('no train block');
    return block.attributes;
  };

  test('takes over everything that is not written again', () => {
    expect(extended('').steps).toBe(10);
    expect(extended('steps = 11').steps).toBe(11);
    expect(extended('steps = 11').base.block).toBe('pony');
  });

  test('merges records key by key and replaces lists', () => {
    const { network, optimizer } = extended('network = locon { dim = 7 } optimizer = SAVEUS { betas = [0.7, 0.8] }');
    expect(network).toMatchObject({ dim: 7, conv_dim: 3 });
    expect(optimizer).toMatchObject({ betas: [0.7, 0.8], eps: 1 });
  });

  test('does not repeat what is wrong with the other block', () => {
    expectProblems(
      ['unknown-attribute', 'unknown-name'],
      `${trained} resize a { from = raw «colour» = 3 thr = «x» + 1 } resize b extends a { } resize c extends b { }`,
    );
  });

  test('needs a block of the same kind', () => {
    expectProblems(['wrong-kind'], `${trained} resize a extends «raw» { from = raw }`);
    expectProblems(['unknown-name'], `${trained} resize a extends «b» { from = raw }`);
  });
});

describe('resize', () => {
  const resize = (attributes: string) =>
    blockOf(`${trained} resize small { from = raw ${attributes} }`, 'resize').attributes;

  test('scores by fro_ckpt when no key is written, and only then', () => {
    expect(resize('')).toMatchObject({ fro_ckpt: 1, thr: -3.55, size: undefined });
    expect(resize('spn_lora = 1')).toMatchObject({ fro_ckpt: undefined, spn_lora: 1 });
    expect(resize('fro_ckpt = 2 params = -1')).toMatchObject({ fro_ckpt: 2, params: -1 });
  });

  test('has no threshold where a size is written', () => {
    expect(resize('size = 20')).toMatchObject({ thr: undefined, size: 20 });
  });

  test('needs no threshold and no score where ranks say what goes', () => {
    expect(resize('max_rank = 4')).toMatchObject({ thr: undefined, fro_ckpt: undefined, max_rank: 4 });
    expect(resize('sv_fro = 0.9 thr = -3')).toMatchObject({ thr: -3, fro_ckpt: 1, sv_fro: 0.9 });
    expect(resize('min_rank = 2')).toMatchObject({ thr: -3.55, fro_ckpt: 1, min_rank: 2 });
    expect(resize('size = 20 max_rank = 4')).toMatchObject({ thr: undefined, fro_ckpt: 1, size: 20 });
  });

  test('needs a smallest rank that is not above the largest', () => {
    expectProblems(['rank-order'], `${trained} resize small { from = raw max_rank = 2 min_rank = «3» }`);
  });

  test('takes a threshold or a size', () => {
    expectProblems(['thr-and-size'], `${trained} resize small { from = raw thr = -3 size = «20» }`);
  });

  test('needs weights that do not cancel', () => {
    expectProblems(['score-sum'], `${trained} resize small { from = raw fro_ckpt = «1» params = -1 }`);
  });
});

describe('chop', () => {
  const chop = (attributes: string) => `${trained} chop tiny { from = raw ${attributes} }`;

  test('says which blocks to keep, once', () => {
    expectProblems(['chop-choice'], `${trained} «chop tiny» { from = raw }`);
    expectProblems(['chop-choice'], chop('keep = [OUT01] drop = «[IN]»'));
  });

  test('knows blocks by all their names, and no others', () => {
    expect(
      blockOf(chop('keep = [OUT1, INP01, M1, input_blocks.1, MID, "OUT0*", TE2]'), 'chop').attributes.keep,
    ).toHaveLength(7);
    expectProblems(['unknown-block', 'unknown-block'], chop('keep = [OUT01, «OUT9», «DOWN01»]'));
    expectProblems(['unknown-block'], chop('weights = { OUT01 = 1 «OUT10» = 0.5 }'));
  });

  test('weighs a block once', () => {
    expectProblems(['duplicate-attribute'], chop('weights = { OUT01 = 1 «OUT1» = 0.5 }'));
    expect(blockOf(chop('weights = { OUT01 = 1 MID = -0.5 }'), 'chop').attributes.weights).toEqual({
      OUT01: 1,
      MID: -0.5,
    });
  });

  test('takes masks of 12, 20 and 21 numbers', () => {
    for (const length of [12, 20, 21]) {
      const mask = Array.from({ length }, () => '1').join(', ');
      expect(compileText(chop(`mask = "${mask}"`)).diagnostics).toEqual([]);
    }
    expect(compileText(chop('mask = "SDXL-LyC-OUTALL"')).diagnostics).toEqual([]);
    expectProblems(['mask-length'], chop('mask = «"1,0,1"»'));
    expectProblems(['mask-entry', 'mask-entry'], chop('mask = "1,0,«x»,0,0,0,0,«1e»,0,0,0,0"'));
  });

  test('warns where the first number of a mask is not 1', () => {
    const text = chop('mask = "0.5,0,0,0,0,0,0,0,0,0,0,0"');
    const { program, diagnostics } = compileText(text);
    expect(diagnostics.map(({ code, severity }) => [code, severity])).toEqual([['mask-first', 'warning']]);
    expect(program).toBeDefined();
  });

  test('keeps, drops or weighs the text encoders', () => {
    expect(blockOf(chop('keep = [OUT01]'), 'chop').attributes.text_encoders).toBe('keep');
    expect(blockOf(chop('keep = [OUT01] text_encoders = 0.5'), 'chop').attributes.text_encoders).toBe(0.5);
    expectProblems(['wrong-type'], chop('keep = [OUT01] text_encoders = «kepe»'));
  });
});

describe('save', () => {
  test('two blocks that save to one path', () => {
    expectProblems(
      ['same-path'],
      `let n = "a" ${trained} save "out/a.safetensors" { from = raw } «save "./out//\${n}.safetensors"» { from = raw }`,
    );
  });

  test('a file that is no safetensors', () => {
    expect(hintsOf(`${trained} save "hero" { from = raw }`)).toEqual(['Write "hero.safetensors"']);
    expect(hintsOf(`${trained} save "hero.ckpt" { from = raw }`)).toEqual(['Write "hero.safetensors"']);
  });

  test('its name is the path, filled in', () => {
    expect(blockOf(`let n = "x" ${trained} save "\${n}.safetensors" { from = raw }`, 'save').name).toBe(
      'x.safetensors',
    );
  });
});

describe('other rules', () => {
  test('buckets fit the resolution, and what means nothing is told', () => {
    const dataset = (written: string) => `dataset a { images = "x" ${written} }`;
    expectProblems(['bucket-step'], dataset('resolution = 64x64  bucket = «{ step = 128 }»'));
    expectProblems(['square-only'], dataset('resolution = «128x128»'));
    expectProblems(['square-only'], dataset('bucket = «{ max = 512 }»'));
    expectProblems(['idle-bucket'], dataset('bucket = «{ upscale = false  max = 1024 }»'));
    expect(hintsOf(dataset('bucket = { upscale = false  max = 1024 }'))).toEqual([
      'Leave "max" out, or write upscale = true.',
    ]);
    expectProblems(['idle-bucket'], dataset('bucket = «{ upscale = false  distance = log_ratio }»'));
    expectProblems(['unknown-word'], dataset('bucket = { distance = «log» }'));
    expectProblems([], dataset('resolution = 128x128  bucket = { upscale = false }'));
    expectProblems([], dataset('bucket = { distance = log_ratio }'));
  });

  test('the shortest side of a bucket is not above the longest', () => {
    expectProblems(['bucket-order'], 'dataset a { images = "x" bucket = «{ min = 512 max = 256 }» }');
  });

  test('two separators of a caption are not the same text, said or by default', () => {
    const dataset = (attributes: string) => `dataset a { images = "x" ${attributes} }`;
    expectProblems(['same-separator'], dataset('secondary_separator = «","»'));
    const [found] = expectProblems(
      ['same-separator'],
      dataset('keep_tokens_separator = "||" secondary_separator = «"||"»'),
    );
    expect(found?.related.map(({ message }) => message)).toEqual(['"keep_tokens_separator" is written here']);
    expectProblems([], dataset('caption_separator = ";" secondary_separator = ","'));
  });

  test('folders that count leave nothing to repeat', () => {
    expectProblems(['repeats-of-folders'], 'dataset a { images = "x" folders = kohya repeats = «3» }');
    expectProblems([], 'dataset a { images = "x" folders = kohya repeats = 1 }');
  });

  test('shares of captions and tags lie between 0 and 1, and counts are whole', () => {
    expectProblems(
      ['out-of-range', 'out-of-range', 'out-of-range', 'out-of-range', 'empty-text'],
      `dataset a {
        images = "x"  caption_dropout_rate = «1.1»  caption_tag_dropout_rate = «-0.1»
        keep_tokens = «1.5»  token_warmup_step = «-1»  caption_prefix = «" "»
      }`,
    );
  });

  test('a program without blocks asks for nothing, and says so', () => {
    const { program, diagnostics } = compileText('# nothing yet\n');
    expect(diagnostics.map(({ code, severity }) => [code, severity])).toEqual([['nothing-asked', 'warning']]);
    expect(program?.blocks).toEqual([]);
  });

  test('a mistake that is used twice is told once', () => {
    expectProblems(['unknown-name'], `let bad = «nope» + 1 ${trainWith('seed = bad steps = bad')}`);
  });
});

describe('params', () => {
  const withParam = (param: string) => `${param} ${trainWith('steps = x')}`;
  const steps = (param: string, value: string) => blockOf(withParam(param), 'train', { x: value }).attributes.steps;
  const codes = (text: string, params: { readonly [name: string]: string }) =>
    compileText(text, params).diagnostics.map(({ code }) => code);

  test('have their default, or what the command line says', () => {
    expect(blockOf(withParam('param x = 3'), 'train').attributes.steps).toBe(3);
    expect(steps('param x = 3', '5')).toBe(5);
    expect(steps('param x = 3', '2 * 4')).toBe(8);
    expect(steps('param x', '6')).toBe(6);
  });

  test('with text for a default take any text', () => {
    const text = 'param n = "a" checkpoint c { path = n }';
    for (const value of ['b', '5', 'true', 'a "quoted" \\ $n', "it's", '/x/y z']) {
      expect(blockOf(text, 'checkpoint', { n: value }).attributes.path.text).toBe(value);
    }
  });

  test('are typed by their default', () => {
    expect(codes(withParam('param x = 3'), { x: 'many' })).toEqual(['param-kind']);
    expect(codes(withParam('param x = 3'), { x: '64x64' })).toEqual(['param-kind']);
    expect(codes(withParam('param x = 3'), { x: '3 +' })).toEqual(['param-kind']);
    expect(codes('param f = true dataset d { images = "x" flip_aug = f }', { f: 'maybe' })).toEqual(['param-kind']);
    expect(codes('param f = true dataset d { images = "x" flip_aug = f }', { f: 'false' })).toEqual([]);
  });

  test('with a word for a default take a word', () => {
    const text =
      'param model = pony checkpoint pony { path = "a" } checkpoint other { path = "b" } dataset d { images = "x" } train t { base = model data = d }';
    expect(blockOf(text.replace('checkpoint other { path = "b" }', ''), 'train').attributes.base.block).toBe('pony');
    const { program } = compileText(text, { model: 'other' });
    const train = program?.blocks.find((block) => block.kind === 'train');
    expect(train?.attributes.base.block).toBe('other');
    expect(codes(text, { model: 'oter' })).toEqual(['unknown-name']);
  });

  test('are checked by what uses them', () => {
    expect(codes(withParam('param x = 3'), { x: '0' })).toEqual(['out-of-range']);
  });

  test('without any value are asked for', () => {
    expectProblems(['unset-param'], withParam('param «x»'));
  });

  test('that the program does not have are pointed at', () => {
    const { diagnostics } = compileText(withParam('param x = 3'), { xs: '1' });
    expect(diagnostics.map(({ code, span }) => [code, span.source.path, span.source.text])).toEqual([
      ['unknown-param', '<command line>', '-p xs=1'],
    ]);
  });

  test('a let cannot be set', () => {
    expect(codes(`let x = 3 ${trainWith('steps = x')}`, { x: '4' })).toEqual(['unknown-param']);
  });
});
