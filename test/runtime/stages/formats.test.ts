// Files in every format: which names, shapes and bytes they have, and that each says the same as any other.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LORA_FORMATS, type LoraFormat } from '../../../src/parser/lora-formats.ts';
import { StageFailure } from '../../../src/runtime/events.ts';
import type { Metadata } from '../../../src/runtime/safetensors/layout.ts';
import type { TensorToWrite } from '../../../src/runtime/safetensors/writer.ts';
import { canonicalLora, canonicalTensors } from '../../../src/runtime/surgery/canonical.ts';
import { inFormat } from '../../../src/runtime/surgery/in-format.ts';
import { type Adapter, adapters, titleOf } from '../../helpers/adapters.ts';
import { factors, numbersOf, product, tableOf } from '../../helpers/tensor-table.ts';
import { sdxlModules } from '../sdxl/sdxl-fixtures.ts';
import { everyModule, type Named, spelt } from '../sdxl/spellings.ts';
import { tensor } from './lora-files.ts';

const path = 'hero.safetensors';

async function written(tensors: readonly TensorToWrite[], format: LoraFormat, metadata?: Metadata) {
  return inFormat({ path, tensors, metadata }, format);
}

const renaming = LORA_FORMATS.filter((format) => format !== 'diffusers');

/** Every module of SDXL, each of another family than the one before. */
function motley(): readonly TensorToWrite[] {
  const forms = adapters.filter(({ module }) => module === undefined);
  return everyModule.flatMap(({ kohya }, index) => {
    const { shapes } = forms[index % forms.length] as Adapter;
    return Object.entries(shapes).map(([suffix, shape]) => {
      const length = shape.reduce((size, side) => size * side, 1);
      return tensor(`${kohya}.${suffix}`, 'F16', shape, new Array<number>(length).fill((index % 7) + 1));
    });
  });
}

describe('every module of SDXL, of every family', async () => {
  const canonical = canonicalTensors(canonicalLora({ path, tensors: motley(), metadata: undefined }));
  const start = [...(await tableOf(canonical))];
  const tables = new Map(
    renaming.map((format) => {
      const names = new Map(everyModule.map((module) => [module.kohya, spelt(format, module)]));
      const renamed = start.map(([name, facts]): [string, string] => {
        const dot = name.indexOf('.');
        return [`${names.get(name.slice(0, dot))}${name.slice(dot)}`, facts];
      });
      return [format, new Map(renamed.sort(([a], [b]) => (a < b ? -1 : 1)))];
    }),
  );

  test.each(renaming.flatMap((from) => renaming.map((to) => [from, to] as const)))(
    'is the same from %s to %s, to the last byte',
    async (from, to) => {
      const first = await written(canonical, from);
      expect(sorted(await tableOf(first.tensors))).toEqual(sorted(tables.get(from)));
      const second = await written(first.tensors, to, first.metadata);
      expect(sorted(await tableOf(second.tensors))).toEqual(sorted(tables.get(to)));
    },
    60_000,
  );
});

function sorted(table: ReadonlyMap<string, string> | undefined): readonly (readonly [string, string])[] {
  return [...(table ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
}

interface Drawn {
  readonly module: Named;
  readonly rank: number;
  /** `undefined`: the file has none, and the scale is 1. */
  readonly alpha: number | undefined;
  readonly dtype: 'F16' | 'BF16' | 'F32';
}

const kinds = new Map(sdxlModules().map(({ lora_key, kind }) => [lora_key, kind]));

function kernelOf({ kohya }: Named): number | undefined {
  return { conv1x1: 1, conv3x3: 3, linear: undefined }[kinds.get(kohya) ?? 'linear'];
}

/** With kohya's names, which is what everything begins with. */
function drawn(modules: readonly Drawn[]): readonly TensorToWrite[] {
  return modules.flatMap(({ module, rank, alpha, dtype }, index) => {
    const kernel = kernelOf(module);
    const [down, up] = [`${module.kohya}.lora_down.weight`, `${module.kohya}.lora_up.weight`];
    const pair = factors(down, up, { rank, dtype, seed: index + 1, ...(kernel !== undefined && { kernel }) });
    return alpha === undefined ? pair : [...pair, tensor(`${module.kohya}.alpha`, 'F32', [], [alpha])];
  });
}

/** ΔW from the tensors of one module, as the readers of a format take them. */
async function deltaOf(
  tensors: readonly TensorToWrite[],
  format: LoraFormat,
  module: Named,
): Promise<readonly number[]> {
  const name = spelt(format, module);
  const [down, up] = format === 'diffusers' ? ['lora_A', 'lora_B'] : ['lora_down', 'lora_up'];
  const rank = tensors.find((each) => each.name === `${name}.${down}.weight`)?.shape[0] ?? 0;
  const hasAlpha = tensors.some((each) => each.name === `${name}.alpha`);
  const [alpha = rank] = hasAlpha ? await numbersOf(tensors, `${name}.alpha`) : [];
  return product(
    await numbersOf(tensors, `${name}.${up}.weight`),
    await numbersOf(tensors, `${name}.${down}.weight`),
    rank,
    alpha / rank,
  );
}

/** One rounding to singles of each product with the scale. */
const SINGLE = 2 ** -22;

function expectEqual(found: readonly number[], wanted: readonly number[]): void {
  const largest = Math.max(...wanted.map(Math.abs));
  expect(found).toHaveLength(wanted.length);
  for (const [index, value] of found.entries()) {
    expect(Math.abs(value - (wanted[index] ?? Number.NaN))).toBeLessThanOrEqual(SINGLE * largest);
  }
}

const anyModules = fc.uniqueArray(
  fc.record<Drawn>({
    module: fc.constantFrom(...everyModule.filter(({ kohya }) => kinds.has(kohya))),
    rank: fc.integer({ min: 1, max: 5 }),
    alpha: fc.option(
      fc
        .double({ min: -300, max: 300, noNaN: true })
        .filter((alpha) => Math.abs(alpha) > 1e-3)
        .map(Math.fround),
      { nil: undefined },
    ),
    dtype: fc.constantFrom('F16', 'BF16', 'F32'),
  }),
  { minLength: 1, maxLength: 12, selector: ({ module }) => module.kohya },
);

// What only SDXL has settles whose modules the others are.
const certain: Drawn = {
  module: { kohya: 'lora_te2_text_projection', diffusers: 'text_projection' },
  rank: 1,
  alpha: 3,
  dtype: 'F32',
};

test('ΔW is the same in any format, and from there in any other, whatever ranks and alphas are', async () => {
  const formats = fc.constantFrom(...LORA_FORMATS);
  const property = fc.asyncProperty(anyModules, formats, formats, async (chosen, from, to) => {
    const modules = [certain, ...chosen];
    const start = drawn(modules);
    const first = await written(start, from);
    const second = await written(first.tensors, to, first.metadata);
    for (const { module } of modules) {
      const wanted = await deltaOf(start, 'kohya', module);
      expectEqual(await deltaOf(first.tensors, from, module), wanted);
      expectEqual(await deltaOf(second.tensors, to, module), wanted);
    }
    expect(second.tensors).toHaveLength(modules.length * (to === 'diffusers' ? 2 : 3) - missing(modules, from, to));
    expect(second.metadata?.has('lora_adapter_metadata') ?? false).toBe(to === 'diffusers');
  });
  await fc.assert(property, { numRuns: 80 });
});

/** A file that has kohya's names is left as it is, without the alphas that it lacks. */
function missing(modules: readonly Drawn[], from: LoraFormat, to: LoraFormat): number {
  return from === 'kohya' && to === 'kohya' ? modules.filter(({ alpha }) => alpha === undefined).length : 0;
}

describe('as diffusers', () => {
  const every = everyModule.map(
    (module, index): Drawn => ({
      module,
      rank: 1 + (index % 5),
      alpha: [4, -2, undefined, 1][index % 4],
      dtype: 'F16',
    }),
  );

  test('bytes are kept where the scale is 1, turned where it is -1, and singles elsewhere', async () => {
    const modules = [1, -1, 0.5, 3].map(
      (scale, index): Drawn => ({ ...certain, module: everyModule[index] as Named, alpha: scale, dtype: 'F16' }),
    );
    const start = drawn([certain, ...modules]);
    const { tensors } = await written(start, 'diffusers');
    const types = modules.map(({ module }) =>
      ['A', 'B'].map((side) =>
        tensors.find(({ name }) => name === `${spelt('diffusers', module)}.lora_${side}.weight`),
      ),
    );
    expect(types.map((pair) => pair.map((each) => each?.dtype))).toEqual([
      ['F16', 'F16'],
      ['F16', 'F16'],
      ['F16', 'F32'],
      ['F16', 'F32'],
    ]);
    expect(types[0]?.map((each) => each?.source.kind)).toEqual(['bytes', 'bytes']);
  });

  test('numbers of bfloat16 stay so under a power of two, which takes no digit from them', async () => {
    const start = drawn([certain, { ...certain, module: everyModule[0] as Named, alpha: -0.0625, dtype: 'BF16' }]);
    const { tensors } = await written(start, 'diffusers');
    const name = `${spelt('diffusers', everyModule[0] as Named)}.lora_B.weight`;
    expect(tensors.find((each) => each.name === name)?.dtype).toBe('BF16');
    const before = await numbersOf(start, `${everyModule[0]?.kohya}.lora_up.weight`);
    expect(await numbersOf(tensors, name)).toEqual(before.map((value) => value * -0.0625));
  });

  test('the settings give every module its rank and the scale 1, with the head of text encoders and without it', async () => {
    const { metadata } = await written(drawn(every), 'diffusers');
    const settings = JSON.parse(metadata?.get('lora_adapter_metadata') ?? '') as { readonly [key: string]: unknown };
    const components = ['unet', 'text_encoder', 'text_encoder_2'];
    expect([...new Set(Object.keys(settings).map((key) => key.split('.')[0]))].sort()).toEqual([...components].sort());
    const patterns = new Map<string, readonly (readonly [RegExp, number])[]>();
    for (const key of Object.keys(settings).filter((name) => name.endsWith('_pattern'))) {
      const pairs = Object.entries(settings[key] as { readonly [pattern: string]: number });
      // As PEFT looks them up.
      patterns.set(
        key,
        pairs.map(([pattern, value]) => [new RegExp(`^(.*\\.)?(${pattern})$`), value]),
      );
    }
    for (const { module, rank } of every) {
      const [component = '', ...rest] = spelt('diffusers', module).split('.');
      for (const inside of [rest.join('.'), rest.join('.').replace(/^text_model\./, '')]) {
        const read = (key: string) => settings[`${component}.${key}`];
        const find = (key: string, otherwise: unknown) =>
          patterns.get(`${component}.${key}`)?.find(([pattern]) => pattern.test(inside))?.[1] ?? otherwise;
        expect([inside, find('rank_pattern', read('r'))]).toEqual([inside, rank]);
        expect([inside, find('alpha_pattern', read('lora_alpha'))]).toEqual([inside, rank]);
        const targets = read('target_modules') as readonly string[];
        expect(targets.some((target) => inside === target || inside.endsWith(`.${target}`))).toBe(true);
        expect(read('use_dora')).toBe(false);
      }
    }
    expect(Object.keys(settings['unet.rank_pattern'] as object)).toHaveLength(4);
  });

  test('a DoRA by output rows is one there, and comes back with the same bytes', async () => {
    const module = 'lora_te2_text_model_encoder_layers_3_mlp_fc1';
    const skip = 'lora_unet_input_blocks_4_0_in_layers_2';
    const one = [
      ...factors(`${module}.lora_down.weight`, `${module}.lora_up.weight`),
      tensor(`${module}.alpha`, 'F32', [], [2]),
      tensor(`${module}.dora_scale`, 'F16', [3, 1], [1, 2, 3]),
      ...factors(`${skip}.lora_down.weight`, `${skip}.lora_up.weight`, { kernel: 3 }),
      tensor(`${skip}.alpha`, 'F32', [], [2]),
      tensor(`${skip}.dora_scale`, 'F16', [3, 1, 1, 1], [4, 5, 6]),
    ];
    const { tensors, metadata } = await written(one, 'diffusers');
    const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]));
    expect(shapes.get('text_encoder_2.text_model.encoder.layers.3.mlp.fc1.lora_magnitude_vector.weight')).toEqual([3]);
    expect(shapes.get('unet.down_blocks.1.resnets.0.conv1.lora_magnitude_vector.weight')).toEqual([1, 3, 1, 1]);
    expect(JSON.parse(metadata?.get('lora_adapter_metadata') ?? '')).toMatchObject({
      'unet.use_dora': true,
      'text_encoder_2.use_dora': true,
    });
    const back = await written(tensors, 'kohya', metadata);
    expect(await tableOf(back.tensors)).toEqual(await tableOf(one));
  });

  test('a 1×1 convolution that is stored as a matrix gets the shape that PEFT loads', async () => {
    const module = 'lora_unet_input_blocks_4_0_skip_connection';
    const flat = factors(`${module}.lora_down.weight`, `${module}.lora_up.weight`);
    const { tensors } = await written([...drawn([certain]), ...flat], 'diffusers');
    const inside = tensors.filter(({ name }) => name.includes('conv_shortcut'));
    expect(inside.map(({ shape }) => shape)).toEqual([
      [2, 2, 1, 1],
      [3, 2, 1, 1],
    ]);
  });

  const loadable = ['LoRA', 'LoRA without alpha', 'LoRA of PEFT', 'LoRA of early diffusers', 'LoRA of a convolution'];
  const refused = adapters.filter((adapter) => !loadable.includes(titleOf(adapter)));
  test.each(refused.map((adapter) => [titleOf(adapter), adapter] as const))('%s', async (title, { shapes }) => {
    const name = 'lora_unet_middle_block_1_proj_in';
    const tensors = Object.entries(shapes).map(([suffix, shape]) => {
      const length = shape.reduce((size, side) => size * side, 1);
      return tensor(`${name}.${suffix}`, 'F32', shape, new Array<number>(length).fill(1));
    });
    if (title === 'DoRA by output rows') {
      await written(tensors, 'diffusers');
      return;
    }
    await expect(refusalOf(tensors, 'diffusers')).resolves.toMatchSnapshot();
  });

  test('DoRA beside LoRA in one network', async () => {
    const module = 'lora_te2_text_model_encoder_layers_3_mlp_fc1';
    const dora = [
      ...factors(`${module}.lora_down.weight`, `${module}.lora_up.weight`),
      tensor(`${module}.dora_scale`, 'F16', [3, 1], [1, 2, 3]),
    ];
    await expect(refusalOf([...drawn([certain]), ...dora], 'diffusers')).resolves.toMatchSnapshot();
  });

  test.each([
    ['a bundled textual inversion', tensor('bundle_emb.cat.string_to_param.*', 'F32', [1], [1])],
    ['a module of another network', tensor('lora_unet_double_blocks_0_img_attn_qkv.diff', 'F32', [1, 1], [1])],
  ])('%s', async (_, extra) => {
    await expect(refusalOf([...drawn([certain]), extra], 'diffusers')).resolves.toMatchSnapshot();
  });

  test.each([
    ['infinite', tensor('lora_te2_text_projection.alpha', 'F32', [], [Number.POSITIVE_INFINITY])],
    ['two numbers', tensor('lora_te2_text_projection.alpha', 'F32', [2], [1, 2])],
  ])('an alpha that is %s', async (_, alpha) => {
    await expect(
      refusalOf([...drawn([{ ...certain, alpha: undefined }]), alpha], 'diffusers'),
    ).resolves.toMatchSnapshot();
  });
});

async function refusalOf(tensors: readonly TensorToWrite[], format: LoraFormat): Promise<string> {
  try {
    await written(tensors, format);
  } catch (error) {
    if (error instanceof StageFailure) return `${error.failure.message}\nhint: ${error.failure.hint}`;
    throw error;
  }
  throw new Error('It was written.');
}

test.each(renaming.filter((format) => format !== 'kohya'))(
  'a module of another network has no name in %s, and keeps its own in kohya',
  async (format) => {
    const name = 'lora_unet_double_blocks_0_img_attn_qkv';
    const flux = factors(`${name}.lora_down.weight`, `${name}.lora_up.weight`);
    await expect(refusalOf(flux, format)).resolves.toContain(`"${name}" is no module of SDXL`);
    expect((await written(flux, 'kohya')).tensors).toEqual(flux);
  },
);

test('a file with kohya names is the same in kohya, even where other tools would have it otherwise', async () => {
  const start = [...motley(), tensor('bundle_emb.cat.string_to_param.*', 'F32', [1], [1])];
  const metadata = new Map([['ss_network_dim', '4']]);
  const { tensors, metadata: after } = await written(start, 'kohya', metadata);
  expect(await tableOf(tensors)).toEqual(await tableOf(start));
  expect(after).toBe(metadata);
});
