// What a file is taken for, and what it is warned about.

import { expect, test } from 'vitest';
import { compareLoras } from '../../../src/runtime/inspect/compare.ts';
import { warningsOf } from '../../../src/runtime/inspect/warnings.ts';
import type { FileHashes } from '../../../src/runtime/safetensors/hashes.ts';
import { type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { openFolder } from '../safetensors/files.ts';
import { type ModuleEntry, sdxlModules } from '../sdxl/sdxl-fixtures.ts';
import { tensor } from '../stages/lora-files.ts';
import { reportOf } from './files.ts';

const table = sdxlModules();
const good = new Map([
  ['ss_base_model_version', 'sdxl_base_v1-0'],
  ['ss_network_dim', '1'],
]);

interface Content {
  readonly [tensor: string]: readonly number[];
}

/** Tensors of one byte to a number, all of them zero, but alphas, which are 1. */
async function reported(content: Content, metadata: ReadonlyMap<string, string> | null = good) {
  await using folder = await openFolder();
  const tensors = Object.entries(content).map(([name, shape]): TensorToWrite => {
    const bytes = new Uint8Array(shape.reduce((product, size) => product * size, 1)).fill(
      name.endsWith('alpha') ? 1 : 0,
    );
    return { name, dtype: 'I8', shape, source: { kind: 'bytes', bytes } };
  });
  await writeSafetensors({
    path: folder.path('one.safetensors'),
    tensors,
    metadata: metadata ?? undefined,
    hashes: false,
  });
  return reportOf(folder.path('one.safetensors'));
}

/** A LoRA of rank 1 over entries of the table, under any names. */
function lora(
  entries: readonly ModuleEntry[],
  name: (entry: ModuleEntry) => string = ({ lora_key }) => lora_key,
): Content {
  const pairs = entries.flatMap((entry) => {
    const kernel = { linear: [], conv1x1: [1, 1], conv3x3: [3, 3] }[entry.kind];
    return [
      [`${name(entry)}.alpha`, []],
      [`${name(entry)}.lora_up.weight`, [entry.out, 1, ...kernel.map(() => 1)]],
      [`${name(entry)}.lora_down.weight`, [1, entry.in, ...kernel]],
    ] as const;
  });
  return Object.fromEntries(pairs);
}

const plain = (name: string, out = 4, width = 4): Content => ({
  [`${name}.alpha`]: [],
  [`${name}.lora_up.weight`]: [out, 1],
  [`${name}.lora_down.weight`]: [1, width],
});

test('preset full of SDXL: every module in its block, kind and rank', async () => {
  const report = await reported(lora(table));
  expect(report.base).toEqual({ base: 'SDXL', because: 'every shape fits', misfits: [] });
  expect(report.textEncoders).toEqual([
    { place: 'TE1', modules: 72, covers: 'attention and MLP' },
    { place: 'TE2', modules: 192, covers: 'attention and MLP' },
  ]);
  expect(report.ranks.map(({ kind, modules, ranks, scales }) => [kind, modules, ranks, scales])).toEqual([
    ['linear', 1003, [1], [1]],
    ['conv1x1', 11, [1], [1]],
    ['conv3x3', 38, [1], [1]],
  ]);
  expect(report.blocks.map(({ place, tensors }) => `${place} ${tensors}`).join(', ')).toBe(
    'IN01 9, IN02 9, IN03 3, IN04 78, IN05 75, IN06 3, IN07 318, IN08 315, MID00 9, MID01 306, MID02 9, ' +
      'OUT00 318, OUT01 318, OUT02 321, OUT03 78, OUT04 78, OUT05 81, OUT06 12, OUT07 12, OUT08 12, TE1 216, TE2 576',
  );
  expect(warningsOf(report, {})).toEqual([]);
});

test('the variant whose text encoders have only their MLPs is told from the full one', async () => {
  const report = await reported(lora(table.filter(({ lora_key }) => !lora_key.includes('_self_attn_'))));
  expect(report.textEncoders).toEqual([
    { place: 'TE1', modules: 24, covers: 'MLP only' },
    { place: 'TE2', modules: 64, covers: 'MLP only' },
  ]);
  expect(report.layout.at(-1)).toBe('INFO: Pass through layers: 264');
});

const diffusers = ({ lora_key, diffusers_key }: ModuleEntry): string =>
  lora_key.startsWith('lora_unet_') ? `lora_unet_${diffusers_key.replaceAll('.', '_')}` : lora_key;

test('names as in diffusers make the same file but for the names', async () => {
  const [ours, theirs] = [await reported(lora(table)), await reported(lora(table, diffusers))];
  expect(theirs.blocks).toEqual(ours.blocks);
  expect(theirs.layout).toEqual(ours.layout);
  expect([...theirs.schemes]).toEqual([
    ['kohya-diffusers', 788],
    ['kohya', 264],
  ]);
  expect(compareLoras(ours, theirs)).toEqual({
    shared: 1052,
    onlyFirst: [],
    onlySecond: [],
    differences: [],
    metadata: [],
  });
});

test('a comparison says what only one has, and which ranks and scales differ', async () => {
  const first = await reported({ ...plain('lora_unet_middle_block_1_proj_in'), ...plain('lora_te1_text_model_x') });
  const second = await reported(
    {
      'lora_unet_mid_block_attentions_0_proj_in.lora_up.weight': [4, 2],
      'lora_unet_mid_block_attentions_0_proj_in.lora_down.weight': [2, 4],
      'lora_unet_mid_block_attentions_0_proj_in.alpha': [],
      ...plain('lora_te2_text_model_y'),
    },
    new Map([['ss_network_dim', '2']]),
  );
  expect(compareLoras(first, second)).toEqual({
    shared: 1,
    onlyFirst: ['lora_te1_text_model_x'],
    onlySecond: ['lora_te2_text_model_y'],
    differences: [
      { place: 'MID01', what: 'rank', first: '1', second: '2', modules: 1 },
      { place: 'MID01', what: 'scale', first: '1', second: '0.5', modules: 1 },
    ],
    metadata: ['ss_base_model_version', 'ss_network_dim'],
  });
});

test.each([
  ['SD 1.x', plain('lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k', 640, 768)],
  ['SD 2.x', plain('lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k', 640, 1024)],
  ['SD 1.x', plain('lora_te_text_model_encoder_layers_0_self_attn_q_proj', 768, 768)],
  ['SD 2.x', plain('lora_te_text_model_encoder_layers_0_self_attn_q_proj', 1024, 1024)],
  ['SD 1.x', plain('lora_unet_up_blocks_3_resnets_0_time_emb_proj')],
  ['SDXL', plain('lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k', 40, 48)],
  ['SDXL', plain('lora_unet_middle_block_1_proj_in', 1280, 1280)],
  ['another family', plain('lora_unet_double_blocks_0_img_attn_qkv')],
  ['another family', plain('diffusion_model.joint_blocks.0.x_block.attn.qkv')],
])('%s is told from names and widths', async (base, content) => {
  const report = await reported(content, null);
  expect(report.base.base).toBe(base);
});

test('a flat factor has the kernel of the module that it is for', async () => {
  const conv = 'lora_unet_input_blocks_1_0_in_layers_2';
  const report = await reported({
    [`${conv}.lokr_w1`]: [2, 2],
    [`${conv}.lokr_w2_a`]: [160, 4],
    [`${conv}.lokr_w2_b`]: [4, 1440],
  });
  expect(report.modules).toMatchObject([{ kind: 'conv3x3', rank: 4, out: 320, columns: 2880 }]);
  expect(report.base.base).toBe('SDXL');
});

test("scales of PEFT come from the header's settings", async () => {
  const module = 'unet.mid_block.attentions.0.proj_in';
  const content = {
    [`${module}.lora_A.weight`]: [4, 1280],
    [`${module}.lora_B.weight`]: [1280, 4],
    'unet.mid_block.attentions.0.proj_out.lora_A.weight': [4, 1280],
    'unet.mid_block.attentions.0.proj_out.lora_B.weight': [1280, 4],
  };
  const settings = { 'unet.lora_alpha': 8, 'unet.alpha_pattern': { 'attentions.0.proj_out': 2 } };
  const scales = async (metadata: ReadonlyMap<string, string> | null) =>
    (await reported(content, metadata)).modules.map(({ scale }) => scale);
  const adapter = (value: unknown) => new Map([['lora_adapter_metadata', JSON.stringify(value)]]);
  expect(await scales(null)).toEqual([1, 1]);
  expect(await scales(adapter(settings))).toEqual([2, 0.5]);
  expect(await scales(adapter({ ...settings, 'unet.use_rslora': true }))).toEqual([4, 1]);
  expect(await scales(new Map([['lora_adapter_metadata', 'nonsense']]))).toEqual([1, 1]);
});

const proj = 'lora_unet_middle_block_1_proj_in';
const right = plain(proj, 1280, 1280);

test.each([
  ['nothing', right, good, undefined],
  ['no metadata', right, null, /^There is no metadata/],
  [
    'no base version',
    right,
    new Map([['x', 'y']]),
    /no ss_base_model_version, so A1111 takes it for a LoRA of Stable Diffusion 1/,
  ],
  [
    'another base version',
    right,
    new Map([...good, ['ss_base_model_version', 'sd_v1']]),
    /is "sd_v1", and its modules are those of SDXL/,
  ],
  [
    'a stale rank',
    right,
    new Map([...good, ['ss_network_dim', '8']]),
    /ss_network_dim is 8, and no linear module has that rank/,
  ],
  ['a long header', right, new Map([...good, ['x', 'y'.repeat(2 ** 20)]]), /ComfyUI shows no metadata/],
  [
    'no alpha',
    { [`${proj}.lora_up.weight`]: [1280, 1], [`${proj}.lora_down.weight`]: [1, 1280] },
    good,
    /^Without alpha, .*: 1 of 1 modules/,
  ],
  ['half a module', { ...right, 'lora_unet_out_2.lora_up.weight': [4, 1] }, good, /"lora_unet_out_2": it has only up/],
  [
    'ranks that disagree',
    { ...right, [`${proj}.lora_up.weight`]: [1280, 2] },
    good,
    /"up" has the rank 2 and "down" 1/,
  ],
  ['a long alpha', { ...right, [`${proj}.alpha`]: [3] }, good, /its alpha is not one number/],
  [
    'another shape',
    { ...right, ...plain('lora_unet_middle_block_1_proj_out', 640, 640) },
    good,
    /1 module of SDXL has another shape here/,
  ],
  ['unknown tensors', { ...right, 'x.y': [1] }, good, /1 tensor belongs to no adapter that is known.*x\.y/],
  ['embeddings', { ...right, 'bundle_emb.cat.clip_l': [1] }, good, /textual inversions bundled/],
  [
    'both spellings',
    { ...right, ...plain('lora_unet_mid_block_attentions_0_proj_out', 1280, 1280) },
    good,
    /diffusers loads only one kind/,
  ],
  [
    'a module twice',
    { ...right, ...plain('diffusion_model.middle_block.1.proj_in', 1280, 1280) },
    good,
    /1 module there twice/,
  ],
  [
    'headless names',
    { ...right, ...plain('lora_te1_encoder_layers_0_mlp_fc1', 3072, 768) },
    good,
    /without "text_model", which no loader finds/,
  ],
  ['no known block', { ...right, ...plain('lora_unet_strange') }, good, /belongs to no block that is known/],
])('%s', async (_, content, metadata, warning) => {
  const warnings = warningsOf(await reported(content as Content, metadata), {});
  if (warning === undefined) expect(warnings).toEqual([]);
  else expect(warnings).toContainEqual(expect.stringMatching(warning));
});

test.each([
  ['e3b0c442', /is not that of the tensors/],
  ['0xabc', /has a "0x" before it/],
  ['abc', undefined],
])('a stored hash %s', async (stored, warning) => {
  const report = { ...(await reported(right)), metadata: new Map([...good, ['sshs_model_hash', stored]]) };
  const hashes: FileHashes = { file: 'f', model: 'abc', legacy: '', autoV3: 'abc' };
  expect(warningsOf(report, { hashes })).toEqual(warning === undefined ? [] : [expect.stringMatching(warning)]);
});

test('NaN in a factor is told by module', async () => {
  const norms = {
    modules: new Map(),
    blocks: new Map(),
    unmeasured: new Map(),
    broken: [proj],
    decomposed: 0,
    shares: new Map(),
  };
  expect(warningsOf(await reported(right), { norms })).toEqual([
    expect.stringContaining(`infinity, which spoils every picture: ${proj}`),
  ]);
});

const ATTENTION = 'input_blocks_4_1_transformer_blocks_0_attn1_to_q';

test.each([
  ['another alpha in attention', { [`lora_unet_${ATTENTION}`]: 2, lora_unet_middle_block_1_proj_in: 1 }, 1],
  ['one alpha', { [`lora_unet_${ATTENTION}`]: 1 }, 0],
  [
    'another alpha outside of attention',
    { lora_unet_input_blocks_4_1_proj_in: 2, lora_unet_input_blocks_1_0_in_layers_2: 1 },
    0,
  ],
  ['a text encoder with an alpha of its own', { lora_te1_text_model_encoder_layers_3_self_attn_q_proj: 5 }, 0],
  [
    'a text encoder whose attention differs',
    {
      lora_te1_text_model_encoder_layers_3_self_attn_q_proj: 5,
      lora_te1_text_model_encoder_layers_3_mlp_fc1: 2,
      lora_te1_text_model_encoder_layers_3_mlp_fc2: 2,
    },
    1,
  ],
  [
    'the names of diffusers in kohya',
    { lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_out_0: 3 },
    1,
  ],
])('diffusers misreads alphas: %s', async (_, alphas, expected) => {
  await using folder = await openFolder();
  const others = { lora_unet_middle_block_1_transformer_blocks_0_ff_net_2: 1, lora_unet_middle_block_1_proj_out: 1 };
  const tensors = Object.entries({ ...others, ...alphas }).flatMap(([name, alpha]) => [
    tensor(`${name}.alpha`, 'F32', [], [alpha]),
    tensor(`${name}.lora_up.weight`, 'F32', [2, 1], [1, 1]),
    tensor(`${name}.lora_down.weight`, 'F32', [1, 2], [1, 1]),
  ]);
  const path = folder.path('one.safetensors');
  await writeSafetensors({ path, tensors, metadata: good, hashes: false });
  const said = warningsOf(await reportOf(path), {}).filter((warning) => warning.includes('diffusers 0.41'));
  expect(said).toHaveLength(expected);
  if (expected > 0) expect(said[0]).toContain('lorac chop FILE --format diffusers');
});
