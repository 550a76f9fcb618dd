// Optimizers, schedules and learning rates: what can be written, and what makes no sense together.

import { expect, test } from 'vitest';
import { blockOf, expectProblems, hintsOf, trainWith } from './marked.ts';

const train = (attributes: string) => blockOf(trainWith(attributes), 'train').attributes;

test.each([
  ['linear { warmup = 5 }', { kind: 'linear', warmup: 5 }],
  ['cosine { warmup = 0.1 }', { kind: 'cosine', num_cycles: 0.375, warmup: 0.1 }],
  ['cosine_with_restarts { num_cycles = 3 }', { kind: 'cosine_with_restarts', num_cycles: 3, warmup: 0 }],
  ['constant_with_warmup { warmup = "12.5%" }', { kind: 'constant_with_warmup', warmup: 0.125 }],
  ['polynomial', { kind: 'polynomial', power: 1, lr_end: 1e-7, warmup: 0 }],
  ['piecewise_constant { step_rules = "1:10, 0.1:20, 1e-3" }', { step_rules: '1:10, 0.1:20, 1e-3' }],
  [
    'python { class = "a.b_2.C"  args = { gamma = 0.9  milestones = [2, 3] } }',
    { class: 'a.b_2.C', args: { gamma: 0.9, milestones: [2, 3] } },
  ],
  ['warmup_stable_decay { decay = "25%"  decay_type = 1-sqrt }', { decay: 0.25, decay_type: '1-sqrt' }],
])('%s is understood', (written, wanted) => {
  expect(train(`lr_scheduler = ${written}`).lr_scheduler).toMatchObject(wanted);
});

test.each([
  ['warmup = «1.5»', 'out-of-range'],
  ['warmup = «-1»', 'out-of-range'],
  ['warmup = «"100%"»', 'share-too-large'],
  ['warmup = «"ten"»', 'wrong-type'],
  ['warmup = «true»', 'wrong-type'],
  ['num_cycles = «0»', 'out-of-range'],
])('%s is complained about', (written, code) => {
  expectProblems([code], trainWith(`lr_scheduler = cosine { ${written} }`));
});

test.each([
  ['«python { args = { } }»', 'missing-attribute'],
  ['python { class = "a.B"  args = «3» }', 'wrong-type'],
  ['«python { class = "OneCycleLR" }»', 'class-name'],
  ['adafactor { warmup_init = «maybe» }', 'wrong-type'],
  ['«adafactor»', 'adafactor-schedule'],
])('the schedule %s is complained about', (written, code) => {
  expectProblems([code], trainWith(`lr_scheduler = ${written}`));
});

test("Adafactor's own rates are 1 unless they are written", () => {
  const own = 'optimizer = Adafactor  lr_scheduler = adafactor { warmup_init = true }';
  expect(train(own)).toMatchObject({
    lr_scheduler: { kind: 'adafactor', warmup_init: true },
    unet_lr: 1,
    text_encoder_lr: 1,
  });
  expect(train(`${own} text_encoder_lr = 0.5 train_unet = false`)).toMatchObject({ unet_lr: 0, text_encoder_lr: 0.5 });
  expectProblems(['small-adafactor-rate'], trainWith(`${own} unet_lr = «1e-4» text_encoder_lr = 0`));
  expect(train('optimizer = Adafactor').unet_lr).toBe(3e-4);
});

test('a schedule whose parts are longer than the training is complained about', () => {
  expectProblems(['schedule-length'], trainWith('steps = 80 lr_scheduler = «linear { warmup = 81 }»'));
  const [both] = expectProblems(
    ['schedule-length'],
    trainWith('steps = 80 lr_scheduler = «warmup_stable_decay { warmup = 0.5  decay = 41 }»'),
  );
  expect(both?.message).toBe('The training has 80 steps; its warmup has 40, and decay has 41.');
  expect(train('steps = 80 lr_scheduler = warmup_stable_decay { warmup = 0.5  decay = 40 }').steps).toBe(80);
});

test('a polynomial has to fall for every rate that is trained', () => {
  expectProblems(['rate-end'], trainWith('lr_scheduler = «polynomial { lr_end = 2e-4 }»'));
  expect(train('text_encoder_lr = 0 lr_scheduler = polynomial { lr_end = 2e-4 }').text_encoder_lr).toBe(0);
});

test.each(['"1:10"', '"1:10,0.1:10,0.01"', '"1:0,0.1"', '"ten:10,0.1"', '"1:10,,0.1"', '"1;10,0.1"'])(
  'pieces written %s are complained about',
  (rules) => {
    expectProblems(['step-rules'], trainWith(`lr_scheduler = «piecewise_constant { step_rules = ${rules} }»`));
  },
);

test("sd-scripts' words for warm-up lead into the braces", () => {
  expect(hintsOf(trainWith('lr_warmup_steps = 10'))).toEqual(['Write lr_scheduler = cosine { warmup = 10 }']);
});

test.each([
  ['AdamW', { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 }],
  ['AdamW8bit { weight_decay = 0 }', { kind: 'AdamW8bit', weight_decay: 0 }],
  ['Adafactor { beta1 = 0.9 }', { beta1: 0.9, eps: [1e-30, 1e-3], scale_parameter: false }],
  ['Lion', { kind: 'Lion', betas: [0.9, 0.99], weight_decay: 0 }],
  ['CAME { betas = [0.9, 0.99, 0.999] }', { betas: [0.9, 0.99, 0.999], eps: [1e-30, 1e-16] }],
  [
    'python { class = "a.b_2.C"  args = { betas = [0.9, 1 - 0.01]  fast = true  none_of = none  way = "up"  in = { x = -1 } } }',
    {
      kind: 'python',
      class: 'a.b_2.C',
      args: { betas: [0.9, 0.99], fast: true, none_of: null, way: 'up', in: { x: -1 } },
    },
  ],
])('the optimizer %s is understood', (written, wanted) => {
  expect(train(`optimizer = ${written}`).optimizer).toMatchObject(wanted);
});

test.each([
  ['AdamW { betas = [0.9, «1»] }', 'out-of-range'],
  ['CAME { betas = «[0.9, 0.999]» }', 'wrong-length'],
  ['AdamW { «d_coef» = 1 }', 'unknown-attribute'],
  ['«python { args = { } }»', 'missing-attribute'],
  ['python { class = "a.B"  args = «3» }', 'wrong-type'],
  ['python { class = "a.B"  args = { way = «up» } }', 'wrong-type'],
  ['python { class = "a.B"  args = { x = 1  «x» = 2 } }', 'duplicate-attribute'],
  ['«python { class = "RAdam" }»', 'class-name'],
  ['«python { class = "a..B" }»', 'class-name'],
  ['«Adam»', 'unknown-word'],
])('the optimizer %s is complained about', (written, code) => {
  expectProblems([code], trainWith(`optimizer = ${written}`));
});

test("Prodigy's rates are 1 unless they are written, and one for all", () => {
  expect(train('optimizer = Prodigy')).toMatchObject({ unet_lr: 1, text_encoder_lr: 1 });
  expect(train('optimizer = Prodigy unet_lr = 0.5 text_encoder_lr = 0')).toMatchObject({ unet_lr: 0.5 });
  expect(train('optimizer = AdamW')).toMatchObject({ unet_lr: 3e-4, text_encoder_lr: 1e-4 });
  expectProblems(['prodigy-rates'], trainWith('optimizer = Prodigy text_encoder_lr = «0.5»'));
  expectProblems(['small-prodigy-rate'], trainWith('optimizer = Prodigy unet_lr = «1e-4» text_encoder_lr = 0'));
});

test('what is not trained has a rate of 0, and something has to be trained', () => {
  expect(train('train_unet = false')).toMatchObject({ unet_lr: 0, text_encoder_lr: 1e-4 });
  expect(train('train_text_encoder = false optimizer = Prodigy')).toMatchObject({ unet_lr: 1, text_encoder_lr: 0 });
  expectProblems(['nothing-to-train'], trainWith('train_unet = «false» text_encoder_lr = 0'));
  expectProblems(['nothing-to-train'], trainWith('unet_lr = «0» train_text_encoder = false'));
});

test('rates by block take names, groups and patterns, and nothing below 0', () => {
  expect(train('block_lr = { OUT01 = 0.5 "TE2.1*" = 0 IN = 2 } loraplus_lr_ratio = 16')).toMatchObject({
    block_lr: { OUT01: 0.5, 'TE2.1*': 0, IN: 2 },
    loraplus_lr_ratio: 16,
  });
  expect(train('block_lr = { "*_attn2_to_?" = 2  lora_unet_output_blocks_1_1_proj_in = 0 }').block_lr).toEqual({
    '*_attn2_to_?': 2,
    lora_unet_output_blocks_1_1_proj_in: 0,
  });
  expectProblems(['unknown-block'], trainWith('block_lr = { «OUT99» = 1 }'));
  expect(hintsOf(trainWith('block_lr = { "*attn2.to_k" = 1 }'))).toEqual([
    'Write "*attn2_to_k", as LoRA files have it.',
  ]);
  expect(hintsOf(trainWith('block_lr = { "*To_K" = 1 }'))[0]).toContain('"lora_unet_output_blocks_1_*"');
  expectProblems(['duplicate-attribute'], trainWith('block_lr = { "*_to_k" = 1  «"*_to_k"» = 2 }'));
  expectProblems(['out-of-range'], trainWith('block_lr = { OUT01 = «-1» }'));
  expectProblems(['out-of-range'], trainWith('loraplus_lr_ratio = «0»'));
  expectProblems(['prodigy-rates'], trainWith('optimizer = Prodigy block_lr = «{ OUT01 = 0.5 }»'));
  expectProblems(['prodigy-rates'], trainWith('optimizer = Prodigy loraplus_lr_ratio = «16»'));
});
