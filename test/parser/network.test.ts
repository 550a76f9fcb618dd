// What a train block says about its network.

import { describe, expect, test } from 'vitest';
import { blockOf, expectProblems, hintsOf, trainWith } from './marked.ts';

const network = (written: string) => blockOf(trainWith(`network = ${written}`), 'train').attributes.network;

describe('which layers', () => {
  test('a preset is a word with a hyphen', () => {
    expect(network('locon { preset = attn-mlp }').preset).toBe('attn-mlp');
    expect(network('locon { preset = unet-only  dim = 2 }')).toMatchObject({ preset: 'unet-only', dim: 2 });
    expect(hintsOf(trainWith('network = locon { preset = "attn-only" }'))).toEqual(['Write attn-only, without quotes']);
    expectProblems(['unknown-word'], trainWith('network = locon { preset = «everything» }'));
  });

  test('patterns are a list of texts', () => {
    expect(network('locon { modules = ["lora_unet_*", "*_te2_*"] }').modules).toEqual(['lora_unet_*', '*_te2_*']);
    expect(hintsOf(trainWith('network = locon { target_modules = ["a"] }'))).toEqual(['It is called modules here.']);
  });

  test('both forms of the text encoders have a word', () => {
    expect(network('locon').text_encoder_modules).toBe('all');
    expect(network('locon { text_encoder_modules = mlp }').text_encoder_modules).toBe('mlp');
  });
});

describe('ranks', () => {
  test('by block are whole numbers, and 0 is one', () => {
    expect(network('locon { dims = { OUT01 = 16  MID = 32  TE1.3 = 0 }  conv_dims = { IN = 4 } }')).toMatchObject({
      dims: { OUT01: 16, MID: 32, 'TE1.3': 0 },
      conv_dims: { IN: 4 },
    });
    const dims = (written: string) => trainWith(`network = locon { dims = ${written} }`);
    expectProblems(['out-of-range'], dims('{ OUT01 = «1.5» }'));
    expectProblems(['out-of-range'], dims('{ OUT01 = «-1» }'));
    expectProblems(['out-of-range'], dims('{ OUT01 = «5000» }'));
    expectProblems(['unknown-block'], dims('{ «OUT09» = 4 }'));
    expectProblems(['duplicate-attribute'], dims('{ OUT01 = 4 «OUT1» = 8 }'));
    expectProblems(['wrong-type'], dims('«[4, 8]»'));
  });
});

describe('kinds', () => {
  test('each has the settings that mean something to it', () => {
    expect(network('dora { dim = 4 }')).toMatchObject({ kind: 'dora', dim: 4, conv_dim: 256 });
    expect(network('loha')).toMatchObject({ kind: 'loha', dim: 8, alpha: 4, conv_dim: 8, use_tucker: false });
    expect(network('lokr { factor = 8  full_matrix = true }')).toMatchObject({ factor: 8, full_matrix: true });
    expect(network('lokr')).toMatchObject({ factor: 'balanced', decompose_both: false });
    expect(network('full')).not.toHaveProperty('dim');
  });

  test('what means nothing to a kind is said to belong to others', () => {
    const hint = (written: string) => hintsOf(trainWith(`network = ${written}`));
    expect(hint('full { dim = 8 }')).toEqual(['Only locon, dora, loha and lokr have that.']);
    expect(hint('full { network_alpha = 8 }')).toEqual(['Only locon, dora, loha and lokr have that.']);
    expect(hint('loha { factor = 8 }')).toEqual(['Only lokr has that.']);
    expect(hint('locon { dora_wd = true }')).toEqual(['It is a network of its own: network = dora { }.']);
    expect(hint('{ factor = 8 }')).toEqual(['Write lokr in front of the braces']);
  });

  test('senseless values are told', () => {
    expectProblems(['out-of-range'], trainWith('network = lokr { factor = «-1» }'));
    expectProblems(['out-of-range'], trainWith('network = lokr { factor = «1» }'));
    expectProblems(['out-of-range'], trainWith('network = locon { dropout = «1» }'));
    expectProblems(['out-of-range'], trainWith('network = locon { rank_dropout = «-0.1» }'));
    expectProblems(['no-norms'], trainWith('network = «full { preset = attn-only  train_norm = true }»'));
  });
});

test('the options of LyCORIS are those of its networks', () => {
  for (const kind of ['locon', 'dora', 'loha', 'lokr']) {
    expect(network(`${kind} { use_scalar = true }`)).toMatchObject({ kind, use_scalar: true });
  }
  expect(network('dora { wd_on_output = false }')).toMatchObject({ wd_on_output: false });
  expect(network('lokr { unbalanced_factorization = true }')).toMatchObject({ unbalanced_factorization: true });
  expectProblems(['unknown-attribute'], trainWith('network = full { «use_scalar» = true }'));
  expectProblems(['unknown-attribute'], trainWith('network = loha { «wd_on_output» = true }'));
  expectProblems(['wrong-type'], trainWith('network = dora { wd_on_output = «3» }'));
});

test('a scalar that SAVEUS would never move is told', () => {
  const still = 'optimizer = SAVEUS { centralization = 1 }';
  expectProblems(['still-scalars'], trainWith(`network = «locon { use_scalar = true }»  ${still}`));
  expectProblems([], trainWith(`network = locon  ${still}`));
});
