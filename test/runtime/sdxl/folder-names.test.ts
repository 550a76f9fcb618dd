// What the tensors of a diffusers folder are called in a single file.

import { expect, test } from 'vitest';
import { type CheckpointTensor, checkpointTensor } from '../../../src/runtime/sdxl/folder-names.ts';
import { folderTensor } from '../../helpers/model-folder.ts';
import { sdxlModules, sdxlShapes } from './sdxl-fixtures.ts';

const names = [...sdxlShapes().keys()].flatMap((name) => {
  const place = folderTensor(name);
  return place === undefined ? [] : [{ name, ...place }];
});
const inPart = (part: string) => new Set(names.flatMap((place) => (place.part === part ? place.names : [])));

test('every tensor of SDXL is found again by its name in a folder', () => {
  const parts = { unet: inPart('unet'), text_encoder: inPart('text_encoder') };
  const others = { text_encoder_2: inPart('text_encoder_2'), vae: inPart('vae') };
  for (const { name, part, names: here, turned, isBare } of names) {
    const change = turned ? 'transpose' : isBare ? 'add-kernel' : 'none';
    for (const [third, each] of here.entries()) {
      const wanted = { name, third: here.length === 1 ? undefined : third, change };
      expect(checkpointTensor(part, each, { ...parts, ...others }[part]), each).toEqual(wanted);
    }
  }
  expect(names.length).toBeGreaterThan(2400);
});

test('modules that LoRAs adapt have the names that the table of modules gives them', () => {
  for (const { diffusers_key, ldm_key, ldm_rows, lora_key } of sdxlModules()) {
    const part = lora_key.startsWith('lora_te1')
      ? 'text_encoder'
      : lora_key.startsWith('lora_te2')
        ? 'text_encoder_2'
        : 'unet';
    const found = checkpointTensor(part, `${diffusers_key}.weight`, inPart(part)) as CheckpointTensor;
    expect(found.name).toBe(ldm_key);
    expect(found.third !== undefined).toBe(ldm_rows !== undefined);
  }
});

test('a level without attention has its upsampler in the place of one', () => {
  const name = 'up_blocks.1.upsamplers.0.conv.weight';
  const with_ = new Set([name, 'up_blocks.1.attentions.0.norm.weight']);
  expect(checkpointTensor('unet', name, with_)).toMatchObject({
    name: 'model.diffusion_model.output_blocks.5.2.conv.weight',
  });
  expect(checkpointTensor('unet', name, new Set([name]))).toMatchObject({
    name: 'model.diffusion_model.output_blocks.5.1.conv.weight',
  });
});

test.each([
  ['query', 'q'],
  ['key', 'k'],
  ['value', 'v'],
  ['proj_attn', 'proj_out'],
])('"%s" is what the attention of an autoencoder was once called', (old, now) => {
  const tensor = `encoder.mid_block.attentions.0.${old}.weight`;
  expect(checkpointTensor('vae', tensor, new Set())).toEqual({
    name: `first_stage_model.encoder.mid.attn_1.${now}.weight`,
    third: undefined,
    change: 'add-kernel',
  });
});

test.each([
  ['unet', 'down_blocks.0.resnets.0.gate.weight'],
  ['unet', 'conv_in.scale'],
  ['unet', 'toString.weight'],
  ['text_encoder_2', 'text_model.encoder.layers.0.mlp.fc3.weight'],
  ['text_encoder_2', 'text_model.encoder.layers.0.toString.weight'],
  ['vae', 'encoder.mid_block.attentions.0.constructor.weight'],
  ['vae', 'encoder.up_blocks.0.resnets.0.conv1.weight'],
  ['vae', 'loss.discriminator.weight'],
] as const)('of %s, "%s" is none of SDXL', (part, name) => {
  expect(checkpointTensor(part, name, new Set())).toBeUndefined();
});

test.each(['text_model.embeddings.position_ids', 'embeddings.position_ids', 'logit_scale'])(
  '"%s" is needed by nobody',
  (name) => {
    expect(checkpointTensor('text_encoder', name, new Set())).toBe('needless');
    expect(checkpointTensor('text_encoder_2', name, new Set())).toBe('needless');
  },
);
