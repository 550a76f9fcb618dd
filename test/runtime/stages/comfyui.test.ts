// What ComfyUI looks for in a LoRA of SDXL, built as it builds it: from the names of the model's own weights.
// Every tensor that we write has to be found there, at the weight that it is meant for.

import { expect, test } from 'vitest';
import { LORA_FORMATS, type LoraFormat } from '../../../src/parser/lora-formats.ts';
import { inFormat } from '../../../src/runtime/surgery/in-format.ts';
import { factors } from '../../helpers/tensor-table.ts';
import { sdxlModules, sdxlShapes } from '../sdxl/sdxl-fixtures.ts';
import { everyModule } from '../sdxl/spellings.ts';
import { tensor } from './lora-files.ts';

const weights = [...sdxlShapes().keys()].filter((key) => key.endsWith('.weight'));

const UNET = 'model.diffusion_model.';
const TE1 = 'conditioner.embedders.0.transformer.';

/** Layers of an encoder that kohya's trainers name. */
const TEXT_LAYERS = [
  'mlp.fc1',
  'mlp.fc2',
  'self_attn.k_proj',
  'self_attn.q_proj',
  'self_attn.v_proj',
  'self_attn.out_proj',
];

const withoutWeight = (key: string): string => key.slice(0, -'.weight'.length);

/** From a name in a LoRA to the weight of ComfyUI's model. */
function keyMap(): ReadonlyMap<string, string> {
  const map = new Map<string, string>();
  const unet = weights.filter((key) => key.startsWith(UNET));
  for (const key of unet.map((each) => each.replace('model.', ''))) {
    map.set(`lora_unet_${withoutWeight(key).replace('diffusion_model.', '').replaceAll('.', '_')}`, key);
    map.set(withoutWeight(key), key);
  }
  for (const [diffusers, key] of diffusersNames()) {
    map.set(`lora_unet_${diffusers.replaceAll('.', '_')}`, key);
    map.set(`lycoris_${diffusers.replaceAll('.', '_')}`, key);
    for (const prefix of ['', 'unet.']) {
      map.set(`${prefix}${diffusers.replace('.to_', '.processor.to_').replace(/\.to_out\.0$/, '.to_out')}`, key);
    }
  }
  const text = [
    ...textWeights('clip_l', 12),
    ...textWeights('clip_g', 32),
    'clip_g.transformer.text_projection.weight',
  ];
  for (const key of text) map.set(`text_encoders.${withoutWeight(key)}`, key);
  for (const [clip, layers, kohya, diffusers] of [
    ['clip_l', 12, 'lora_te1', 'text_encoder'],
    ['clip_g', 32, 'lora_te2', 'text_encoder_2'],
  ] as const) {
    for (const key of textWeights(clip, layers).filter((each) =>
      TEXT_LAYERS.some((end) => each.endsWith(`.${end}.weight`)),
    )) {
      const path = withoutWeight(key).replace(`${clip}.transformer.`, '');
      map.set(`${kohya}_${path.replaceAll('.', '_')}`, key);
      map.set(`${diffusers}.${path}`, key);
    }
  }
  map.set('lora_te2_text_projection', 'clip_g.transformer.text_projection.weight');
  return map;
}

/** The first encoder's own names, which are the second one's as well. */
function textWeights(clip: string, layers: number): readonly string[] {
  const inLayer = weights
    .filter((key) => key.startsWith(`${TE1}text_model.encoder.layers.0.`))
    .map((key) => key.slice(`${TE1}text_model.encoder.layers.0.`.length));
  return Array.from({ length: layers }, (_, layer) =>
    inLayer.map((name) => `${clip}.transformer.text_model.encoder.layers.${layer}.${name}`),
  ).flat();
}

/** diffusers' layers of the UNet, and ComfyUI's weight of each. */
function diffusersNames(): ReadonlyMap<string, string> {
  const modules = sdxlModules().filter(({ lora_key }) => lora_key.startsWith('lora_unet_'));
  const known = modules.map(({ diffusers_key, ldm_key }): [string, string] => [
    diffusers_key,
    ldm_key.replace('model.', ''),
  ]);
  const byKohya = new Map(
    weights.map((key) => [`lora_unet_${withoutWeight(key).replace(UNET, '').replaceAll('.', '_')}`, key]),
  );
  const outside = everyModule.flatMap(({ kohya, diffusers }): [string, string][] => {
    const key = byKohya.get(kohya);
    return key === undefined ? [] : [[diffusers, key.replace('model.', '')]];
  });
  return new Map([...outside, ...known]);
}

/** What ComfyUI calls the weight that a module of kohya's adapts. */
function weightOf(kohya: string, diffusers: string): string {
  if (kohya.startsWith('lora_te1_')) return `clip_l.transformer.${diffusers}.weight`;
  if (kohya.startsWith('lora_te2_')) return `clip_g.transformer.${diffusers}.weight`;
  return unetWeights.get(diffusers) ?? '';
}

const [map, unetWeights] = [keyMap(), diffusersNames()];

const readable = LORA_FORMATS.filter((format) => format !== 'diffusers');

test.each(readable)(
  'ComfyUI finds every module of a file in the format %s, and takes it for the right weight',
  async (format) => {
    const wanted = new Map(everyModule.map(({ kohya, diffusers }, index) => [index, weightOf(kohya, diffusers)]));
    // The rank tells modules apart in the file that comes out.
    const tensors = everyModule.flatMap(({ kohya }, index) => [
      ...factors(`${kohya}.lora_down.weight`, `${kohya}.lora_up.weight`, { rank: index + 1, in: 1, out: 1 }),
      tensor(`${kohya}.alpha`, 'F16', [], [1]),
    ]);
    const { tensors: written } = await inFormat({ path: 'x', tensors, metadata: undefined }, format as LoraFormat);
    const found = new Map<number, string | undefined>();
    const unknown: string[] = [];
    for (const { name, shape } of written) {
      const module = name.replace(/\.(?:alpha|lora_(?:up|down)\.weight)$/, '');
      if (!map.has(module)) unknown.push(name);
      if (name.endsWith('.lora_down.weight')) found.set((shape[0] ?? 0) - 1, map.get(module));
    }
    expect(unknown).toEqual([]);
    expect(found).toEqual(wanted);
  },
);

test('norms and what else LyCORIS writes are found as well', async () => {
  const name = 'lora_unet_output_blocks_5_1_transformer_blocks_1_norm3';
  const tensors = ['w_norm', 'b_norm'].map((suffix) => tensor(`${name}.${suffix}`, 'F32', [2], [1, 2]));
  for (const format of readable) {
    const { tensors: written } = await inFormat({ path: 'x', tensors, metadata: undefined }, format);
    const found = written.map((each) => [map.get(each.name.replace(/\.[wb]_norm$/, '')), each.name.slice(-6)]);
    const weight = 'diffusion_model.output_blocks.5.1.transformer_blocks.1.norm3.weight';
    expect(found).toEqual([
      [weight, 'w_norm'],
      [weight, 'b_norm'],
    ]);
  }
});

test('of the format diffusers it misses the attention layers of the UNet alone, which is why it is not the default', async () => {
  const tensors = everyModule.flatMap(({ kohya }) =>
    factors(`${kohya}.lora_down.weight`, `${kohya}.lora_up.weight`, { in: 1, out: 1 }),
  );
  const { tensors: written } = await inFormat({ path: 'x', tensors, metadata: undefined }, 'diffusers');
  const lost = written
    .map(({ name }) => name.replace(/\.lora_[AB]\.weight$/, ''))
    .filter((module) => !map.has(module) && module !== 'text_encoder_2.text_projection');
  expect(lost.length).toBeGreaterThan(0);
  expect(lost.filter((module) => !/\.attn[12]\.to_(?:q|k|v|out\.0)$/.test(module))).toEqual([]);
});
