// Settings of a training that belong together.

import { describe, expect, test } from 'vitest';
import { blockOf, compileText, expectProblems, trainWith } from './marked.ts';

const attributesOf = (attributes: string) => blockOf(trainWith(attributes), 'train').attributes;

describe('loss', () => {
  test('is the square of the error, or one of three others', () => {
    expect(attributesOf('').loss).toEqual({ kind: 'l2' });
    expect(attributesOf('loss = l1').loss).toEqual({ kind: 'l1' });
    expect(attributesOf('loss = huber').loss).toEqual({ kind: 'huber', c: 0.1, schedule: 'snr', scale: 1 });
    expect(attributesOf('loss = smooth_l1 { c = 0.5  schedule = constant  scale = 2 }').loss).toEqual({
      kind: 'smooth_l1',
      c: 0.5,
      schedule: 'constant',
      scale: 2,
    });
  });

  test('has thresholds above 0', () => {
    expectProblems(['out-of-range'], trainWith('loss = huber { c = «0» }'));
    expectProblems(['out-of-range'], trainWith('loss = smooth_l1 { schedule = constant  scale = «-1» }'));
    expectProblems(['unknown-word'], trainWith('loss = «l3»'));
    expectProblems(['unknown-word'], trainWith('loss = huber { schedule = «cosine» }'));
  });

  test('has no scale where the schedule does not read it', () => {
    const found = expectProblems(['scale-of-snr'], trainWith('loss = «huber { scale = 2 }»'));
    expect(found[0]?.hint).toContain('schedule = exponential');
  });

  test('is recognised by the names of sd-scripts', () => {
    for (const [written, wanted] of [
      ['«loss_type» = "huber"', 'loss'],
      ['loss = huber { «huber_c» = 0.2 }', 'c'],
      ['loss = huber { «huber_schedule» = constant }', 'schedule'],
    ] as const) {
      expect(expectProblems(['unknown-attribute'], trainWith(written))[0]?.hint).toBe(`It is called ${wanted} here.`);
    }
  });
});

describe('weights of timesteps', () => {
  test('are off until they are written', () => {
    expect(attributesOf('')).toMatchObject({ debiased_estimation: false, v_pred_like_loss: 0 });
    expect(attributesOf('').min_snr_gamma).toBeUndefined();
    expect(attributesOf('min_snr_gamma = 5').min_snr_gamma).toBe(5);
  });

  test('have a gamma above 0', () => {
    expectProblems(['out-of-range'], trainWith('min_snr_gamma = «0»'));
    expectProblems(['out-of-range'], trainWith('v_pred_like_loss = «-0.1»'));
  });

  test('are for one kind of prediction', () => {
    expectProblems(
      ['both-predictions'],
      trainWith('scale_v_pred_loss_like_noise_pred = true  v_pred_like_loss = «0.1»'),
    );
  });

  test('by noise are one too many when there are two', () => {
    const [found] = expectProblems(['two-weights'], trainWith('min_snr_gamma = 5  debiased_estimation = «true»'));
    expect(found?.severity).toBe('warning');
  });
});

describe('noise and timesteps', () => {
  test('are plain, and all, until something is written', () => {
    expect(attributesOf('')).toMatchObject({ noise_offset: 0, ip_noise_gamma: 0, min_timestep: 0, max_timestep: 1000 });
    const written = 'noise_offset = 0.05  adaptive_noise_scale = -0.01  min_timestep = 200  max_timestep = 201';
    expect(attributesOf(written)).toMatchObject({ adaptive_noise_scale: -0.01, min_timestep: 200, max_timestep: 201 });
  });

  test('have a strength before it is varied', () => {
    expectProblems(['no-strength'], trainWith('noise_offset_random_strength = «true»'));
    expectProblems(['no-strength'], trainWith('noise_offset = 0  adaptive_noise_scale = «0.1»'));
    const [found] = expectProblems(['no-strength'], trainWith('ip_noise_gamma_random_strength = «true»'));
    expect(found?.hint).toContain('ip_noise_gamma = 0.1');
    expect(attributesOf('adaptive_noise_scale = 0  noise_offset_random_strength = false').noise_offset).toBe(0);
  });

  test('are within the schedule, and there is at least one', () => {
    expectProblems(['out-of-range'], trainWith('max_timestep = «1001»'));
    expectProblems(['out-of-range'], trainWith('noise_offset = «-0.1»'));
    expectProblems(['timestep-order'], trainWith('min_timestep = «500»  max_timestep = 500'));
    expectProblems(['timestep-order'], trainWith('max_timestep = 5  min_timestep = «900»'));
  });
});

describe('the length of what adapters add', () => {
  test('is kept where there are two factors to shorten', () => {
    expect(attributesOf('').scale_weight_norms).toBeUndefined();
    expect(attributesOf('scale_weight_norms = 1').scale_weight_norms).toBe(1);
    expect(attributesOf('scale_weight_norms = 1  network = lokr').scale_weight_norms).toBe(1);
    expectProblems(['out-of-range'], trainWith('scale_weight_norms = «0»'));
    for (const kind of ['dora', 'loha', 'full']) {
      const [found] = expectProblems(['no-weight-norms'], trainWith(`scale_weight_norms = «1»  network = ${kind}`));
      expect(found?.message).toContain('shortens the two factors of an adapter, and ');
    }
  });
});

describe('what a training begins with', () => {
  test('is any LoRA but what is made of the training itself', () => {
    const more = 'lora old { path = "old.safetensors" }';
    expect(attributesOf('').init).toBeUndefined();
    expect(blockOf(trainWith('init = old', more), 'train').attributes.init).toMatchObject({ block: 'old' });
    expectProblems(['wrong-kind'], trainWith('init = «pony»'));
    expectProblems(['cycle'], trainWith('init = «raw@10»'));
    expectProblems(['cycle'], `${trainWith('init = «small»')} resize small { from = raw }`);
    expectProblems(['no-step-choice'], trainWith('init = «old@10»', more));
  });

  test('is recognised by the name of sd-scripts', () => {
    const [found] = expectProblems(['unknown-attribute'], trainWith('«network_weights» = "old.safetensors"'));
    expect(found?.hint).toBe('It is called init here.');
  });
});

describe('regularization', () => {
  const two = (attributes: string) => `dataset keep { images = "keep" }\n${trainWith(attributes)}`;

  test('is a dataset of its own, whose loss can be weighed', () => {
    const { attributes } = blockOf(two('regularization = keep  prior_loss_weight = 0.5'), 'train');
    expect(attributes).toMatchObject({ regularization: { block: 'keep' }, prior_loss_weight: 0.5 });
    expect(attributesOf('')).toMatchObject({ regularization: undefined, prior_loss_weight: 1 });
    expectProblems(['same-images'], two('regularization = «hero»'));
    expectProblems(['out-of-range'], two('regularization = keep  prior_loss_weight = «-1»'));
    expectProblems(['wrong-kind'], two('regularization = «pony»'));
  });

  test('that is not there cannot be weighed', () => {
    expectProblems(['idle-prior-weight'], trainWith('prior_loss_weight = «0.5»'));
  });
});

describe('what a checkpoint predicts', () => {
  const program = (checkpoint: string, train = '') => `
    checkpoint pony { path = "pony.safetensors" ${checkpoint} }
    dataset hero { images = "images" }
    train raw { base = pony  data = hero  ${train} }`;

  test('is said by its file, or by the program', () => {
    const said = { prediction: 'v', zero_terminal_snr: 'on' };
    expect(blockOf(program(''), 'checkpoint').attributes).toMatchObject({
      prediction: 'auto',
      zero_terminal_snr: 'auto',
    });
    expect(blockOf(program('prediction = v  zero_terminal_snr = on'), 'checkpoint').attributes).toMatchObject(said);
    expectProblems(['unknown-word'], program('prediction = «x0»'));
  });

  test('fits the losses that are for one kind', () => {
    expectProblems(['other-prediction'], program('prediction = v', 'v_pred_like_loss = «0.1»'));
    expectProblems(['other-prediction'], program('prediction = epsilon', 'scale_v_pred_loss_like_noise_pred = «true»'));
    expect(compileText(program('prediction = v', 'scale_v_pred_loss_like_noise_pred = true')).diagnostics).toEqual([]);
    expect(compileText(program('', 'v_pred_like_loss = 0.1')).diagnostics).toEqual([]);
  });

  test('is v where the schedule ends in pure noise', () => {
    const [found] = expectProblems(['snr-of-epsilon'], program('prediction = epsilon  zero_terminal_snr = «on»'));
    expect(found?.severity).toBe('warning');
  });
});

test('frozen weights may take 8 bits, and then 32 for all else are too many', () => {
  expect([attributesOf('').fp8_base, attributesOf('fp8_base = unet').fp8_base]).toEqual(['off', 'unet']);
  const [found] = expectProblems(['coarse-weights'], trainWith('fp8_base = «on»  mixed_precision = fp32'));
  expect(found?.severity).toBe('warning');
  expect(compileText(trainWith('fp8_base = on')).diagnostics).toEqual([]);
  expectProblems(['unknown-word'], trainWith('fp8_base = «vae»'));
});

test('what is compiled has no dropouts, and no more blocks wait than there are', () => {
  expect([attributesOf('').compile, attributesOf('').blocks_to_swap]).toEqual([false, 0]);
  expect(compileText(trainWith('compile = true  blocks_to_swap = 70')).diagnostics).toEqual([]);
  for (const dropout of ['dropout', 'rank_dropout', 'module_dropout']) {
    expectProblems(['idle-compile'], trainWith(`compile = «true»  network = locon { ${dropout} = 0.1 }`));
  }
  expectProblems(['out-of-range'], trainWith('blocks_to_swap = «71»'));
});

test('the memory that a training may take has a unit, and is above nothing', () => {
  expect(attributesOf('').vram).toBeUndefined();
  expect([attributesOf('vram = 8GiB').vram, attributesOf('vram = 8192').vram]).toEqual([8192, 8192]);
  expect(attributesOf('vram = 8GB').vram).toBeCloseTo(7629.39, 2);
  expectProblems(['out-of-range'], trainWith('vram = «0»'));
});

test('a step that is not finite stops a training, or is skipped', () => {
  expect([attributesOf('').on_non_finite, attributesOf('on_non_finite = skip').on_non_finite]).toEqual([
    'stop',
    'skip',
  ]);
  expectProblems(['unknown-word'], trainWith('on_non_finite = «ignore»'));
});

test('one process trains, or several do, on machines that know where they meet', () => {
  expect([attributesOf('').launch, attributesOf('launch = torchrun').launch]).toEqual([
    { kind: 'single' },
    { kind: 'torchrun', machines: 1, wait: { seconds: 900 } },
  ]);
  const machines = 'machines = 2  rendezvous = "gpu1:29400"  wait = 1min';
  expect(attributesOf(`launch = torchrun { processes = 4  ${machines} }`).launch).toMatchObject({
    processes: 4,
    rendezvous: 'gpu1:29400',
    wait: { seconds: 60 },
  });
  const odd = ['machines = 2', 'machines = 2  rendezvous = "gpu1"', 'rendezvous = "gpu1:29400"'];
  for (const fields of odd) expectProblems(['odd-rendezvous'], trainWith(`launch = «torchrun { ${fields} }»`));
});

test('processes that a step has no images for are pointed at', () => {
  const few = 'batch_size = 1  gradient_accumulation_steps = 3';
  const [found] = expectProblems(['idle-processes'], trainWith(`launch = «torchrun { processes = 4 }»  ${few}`));
  expect(found?.severity).toBe('warning');
  expect(expectProblems([], trainWith(`launch = torchrun { processes = 3 }  ${few}`))).toEqual([]);
});

test("torchrun's and accelerate's own words are understood", () => {
  for (const word of ['nproc_per_node', 'num_processes', 'nnodes', 'rdzv_endpoint'])
    expectProblems(['unknown-attribute'], trainWith(`launch = torchrun { «${word}» = 4 }`));
});
