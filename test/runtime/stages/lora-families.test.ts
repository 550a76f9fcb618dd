// A module of each family, spelt in each way: it gets one name, and does what it did.

import { expect, test } from 'vitest';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { lora } from '../../../src/runtime/stages/lora.ts';
import { isCanonical } from '../../../src/runtime/surgery/canonical.ts';
import { type Adapter, adapters, adapterTensors, biasOf, deltaOf, MODULE, titleOf } from '../../helpers/adapters.ts';
import { openFolder } from '../safetensors/files.ts';
import { runAlone } from './lab.ts';

const schemes = {
  kohya: MODULE,
  'kohya-diffusers': 'lora_unet_mid_block_attentions_0_toy',
  diffusers: 'unet.mid_block.attentions.0.toy',
  peft: 'base_model.model.mid_block.attentions.0.toy',
  comfyui: 'diffusion_model.middle_block.1.toy',
  'comfyui with its own prefix': 'model.diffusion_model.middle_block.1.toy',
  lycoris: 'lycoris_mid_block_attentions_0_toy',
  bare: 'mid_block.attentions.0.toy',
};

/** What the module does afterwards: factors of one kind, whatever they were called and scaled by. */
function afterwards(adapter: Adapter): Adapter {
  const plain = adapters[0] as Adapter;
  const isPlain = adapter.family === 'LoRA' && adapter.kind === 'linear';
  return { ...adapter, module: MODULE, delta: isPlain ? plain.delta : adapter.delta };
}

test.each(
  Object.entries(schemes).flatMap(([scheme, module]) =>
    adapters.map((adapter) => [titleOf(adapter), scheme, { ...adapter, module }] as const),
  ),
)('%s with the names of %s', async (_, __, adapter) => {
  await using folder = await openFolder();
  const before = folder.path('hero.safetensors');
  await writeSafetensors({ path: before, tensors: adapterTensors(adapter), metadata: undefined, hashes: false });
  const { outputs, said } = await runAlone({ stage: lora, inputs: { lora: before }, work: folder.path('.') });
  const path = outputs.lora ?? '';
  await using file = await SafetensorsFile.open(path);
  expect([...file.header.tensors.keys()].filter((name) => !name.startsWith(`${MODULE}.`))).toEqual([]);
  expect(isCanonical(file)).toBe(true);
  expect(said).toEqual([]);
  const after = afterwards(adapter);
  for (const measure of [deltaOf, biasOf]) {
    const [wanted, found] = [await measure(before, adapter), await measure(path, after)];
    expect(found).toHaveLength(wanted.length);
    // Alphas are singles, and sums may have another order.
    for (const [index, value] of found.entries()) expect(value).toBeCloseTo(wanted[index] ?? Number.NaN, 6);
  }
});
