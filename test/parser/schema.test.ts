// The schema table keeps the promises that the rest relies on.

import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { writeValue } from '../../src/parser/diagnostics/describe.ts';
import { blockKinds, fieldsOf, needless } from '../../src/parser/schema/schema.ts';
import type { Fields, Setting, Type } from '../../src/parser/schema/types.ts';
import { compileText, trainWith } from './marked.ts';

interface Row {
  readonly kind: string;
  readonly path: string;
  readonly name: string;
  readonly setting: Setting;
  /** Puts a value where the attribute stands, in a program that is right otherwise. */
  readonly program: (value: string) => string;
}

function innerFields(type: Type): readonly (readonly [string, Fields])[] {
  if (type.kind === 'record') return [['', type.fields]];
  return type.kind === 'tagged' ? Object.entries(type.variants) : [];
}

const needed: { readonly [kind: string]: string } = {
  checkpoint: 'path = "a"',
  dataset: 'images = "a"',
  train: 'base = pony data = hero',
  resize: 'from = raw0',
  lora: 'path = "a.safetensors"',
  chop: 'from = raw0 keep = [OUT01]',
  merge: 'from = [raw0]',
  preview: 'loras = [raw0] prompts = "p.txt"',
  analyze: 'from = raw0',
  save: 'from = raw0',
};

const rows: Row[] = blockKinds.flatMap((kind) =>
  Object.entries(fieldsOf(kind)).flatMap(([name, setting]) => {
    const program = (value: string) => {
      const before = trainWith('').replace('raw', 'raw0');
      const heading = kind === 'save' ? 'save "x.safetensors"' : `${kind} it`;
      return `${before} ${heading} { ${needed[kind]} ${name} = ${value} }`;
    };
    const inner = innerFields(setting.type).flatMap(([tag, fields]) =>
      Object.entries(fields).map(([field, one]) => ({
        kind,
        path: `${name}.${tag}.${field}`,
        name: field,
        setting: one,
        program: (value: string) => {
          const others = tag === '' && name === 'sample' && field !== 'prompts' ? 'prompts = "p.txt"' : '';
          const beside = tag === 'adafactor' ? 'optimizer = Adafactor' : '';
          return program(`${tag} { ${others} ${field} = ${value} } ${beside}`);
        },
      })),
    );
    return [{ kind, path: name, name, setting, program }, ...inner];
  }),
);

const withDefaults = rows.filter(
  ({ setting, kind, path }) => setting.default !== undefined && !(kind === 'chop' && path === 'keep'),
);

test.each(withDefaults.map((row) => [`${row.kind}.${row.path}`, row] as const))(
  'the default of %s can be written',
  (_, row) => {
    const { program, diagnostics } = compileText(row.program(writeValue(row.setting.type, row.setting.default)));
    expect(diagnostics).toEqual([]);
    const block = program?.blocks.at(-1);
    const attributes: { readonly [name: string]: unknown } = { ...block?.attributes };
    const [outer, , inner] = row.path.split('.');
    const value = attributes[outer as string];
    const read = inner === undefined ? value : (value as { readonly [name: string]: unknown })[inner];
    expect(read).toEqual(row.setting.default);
  },
);

/** What no attribute of the type can be. */
function badValues(type: Type): readonly string[] {
  switch (type.kind) {
    case 'number': {
      const { min, max, openMin, openMax, integer, multipleOf } = type;
      return [
        '"many"',
        'true',
        ...(min === undefined ? [] : [String(openMin ? min : min - 1)]),
        ...(max === undefined ? [] : [String(openMax ? max : max + (multipleOf ?? 1))]),
        ...(integer ? [String((min ?? 0) + 0.5)] : []),
        ...(multipleOf === undefined ? [] : [String((min ?? 0) + multipleOf / 2)]),
      ];
    }
    case 'text':
      return ['3', 'true'];
    case 'boolean':
      return ['3', '"maybe"'];
    case 'size':
      return [`${type.max + 1}x${type.max + 1}`, `${type.min - 1}x${type.min}`, '"large"', 'true'];
    case 'either':
      return ['{ }', '{ nonsense = 3 }'];
    case 'list':
      return type.isSet ? ['[]', '{ }'] : ['{ }'];
    case 'block-numbers':
      return ['{ NOWHERE = 1 }', '3', '{ OUT01 = true }'];
    case 'record':
      return ['3', '{ nonsense = 3 }'];
    case 'tagged':
      return ['3', 'nonsense', `${Object.keys(type.variants)[0]} { nonsense = 3 }`];
    case 'weighted-references':
      return ['3', '[nobody]'];
    case 'duration':
    case 'steps':
    case 'steps-or-share':
    case 'words':
    case 'reference':
    case 'network-block':
    case 'arguments':
    case 'named':
    case 'schedule':
      return ['[3]', '"nonsense"'];
  }
}

test.each(rows.map((row) => [`${row.kind}.${row.path}`, row] as const))(
  'a bad value of %s is an error before anything runs',
  (_, { setting, program }) => {
    const values = badValues(setting.type);
    for (const value of values) {
      const { program: checked, diagnostics } = compileText(program(value));
      expect(
        diagnostics.map(({ severity }) => severity),
        value,
      ).toContain('error');
      expect(checked, value).toBeUndefined();
    }
    expect(values).not.toEqual([]);
  },
);

test('no attribute bears the name of a block kind, or of a word that begins a statement', () => {
  const taken = new Set([...blockKinds, 'let', 'param', 'import', 'extends']);
  expect(rows.filter(({ name }) => taken.has(name)).map(({ path }) => path)).toEqual([]);
});

test('a synonym leads to one attribute only, and is not an attribute beside it', () => {
  const groups: Fields[] = blockKinds.flatMap((kind) => {
    const fields = fieldsOf(kind);
    return [fields, ...Object.values(fields).flatMap(({ type }) => innerFields(type).map(([, inner]) => inner))];
  });
  for (const fields of groups) {
    const words = [...Object.keys(fields), ...Object.values(fields).flatMap(({ synonyms }) => synonyms)];
    expect(words.filter((word, index) => words.indexOf(word) !== index)).toEqual([]);
  }
});

test('every attribute says what it is for, in a sentence', () => {
  for (const { setting, path } of rows) expect(setting.doc, path).toMatch(/^[A-Za-z0-9].*\.$/);
});

test('what changes nothing in the result is known as such', () => {
  const free = rows.filter(({ setting }) => !setting.fingerprint).map(({ kind, path }) => `${kind}.${path}`);
  expect(free).toEqual([
    'train.save_every',
    'train.save_last_n_steps',
    'train.sample',
    'train.on_non_finite',
    'train.gradient_checkpointing',
    'train.blocks_to_swap',
    'train.compile',
    'train.vram',
    'train.launch',
    'train.state_every',
    'save.overwrite',
  ]);
});

/** The words of the guide's command line. `bucket` stands for three of them. */
const guide = `pretrained_model_name_or_path train_data_dir resolution output_dir output_name enable_bucket min_bucket_reso
  max_bucket_reso network_alpha save_model_as network_module network_args preset conv_dim conv_alpha rank_dropout
  module_dropout use_tucker use_scalar rank_dropout_scale algo dora_wd train_norm network_dropout lr_scheduler
  lr_scheduler_args num_cycles learning_rate unet_lr text_encoder_lr network_dim no_half_vae flip_aug save_every_n_steps
  mixed_precision save_precision cache_latents cache_latents_to_disk optimizer_type max_grad_norm
  max_data_loader_n_workers bucket_reso_steps multires_noise_iterations multires_noise_discount log_prefix log_with
  logging_dir gradient_accumulation_steps gradient_checkpointing train_batch_size dataset_repeats shuffle_caption
  max_train_steps sdpa caption_extension sample_prompts sample_sampler sample_every_n_steps num_cpu_threads_per_process`;

test.each(guide.split(/\s+/))('the flag --%s of the guide has a row, or a reason why none is needed', (flag) => {
  const isKnown = rows.some(({ name, setting }) => name === flag || setting.synonyms.includes(flag));
  expect(isKnown || Object.hasOwn(needless, flag)).toBe(true);
});

test('the table knows no parser: it imports nothing but its own parts, values and lists of words', () => {
  const folder = new URL('../../src/parser/schema/', import.meta.url);
  for (const name of readdirSync(folder)) {
    const text = readFileSync(new URL(name, folder), 'utf8');
    const imported = [...text.matchAll(/from '(.*)'/g)].map(([, from]) => from);
    expect(imported.filter((from) => !/^\.\/[\w-]+\.ts$|^\.\.\/(?:values|lora-formats)\.ts$/.test(from ?? ''))).toEqual(
      [],
    );
  }
});
