import { truncate, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { StageFailure } from '../../../src/runtime/events.ts';
import type { StageContext } from '../../../src/runtime/stage.ts';
import { checkSpace, formatBytes } from '../../../src/runtime/stages/check-space.ts';
import { trainingSpace } from '../../../src/runtime/stages/train-space.ts';
import type { TrainSettings } from '../../../src/runtime/worker/protocol.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { sdxlShapes } from '../sdxl/sdxl-fixtures.ts';

const usual = {
  kind: 'locon',
  preset: 'full',
  dim: 8,
  alpha: 4,
  conv_dim: 256,
  conv_alpha: 4,
  dims: {},
  conv_dims: {},
} as const;

test("the guide's recipe on SDXL needs 240 MB for a LoRA and 1.4 GB for a state", async () => {
  using folder = temporaryFolder();
  const checkpoint = folder.at('sdxl.safetensors');
  await writeHollowCheckpoint(checkpoint);
  const settings = { network: usual, save_precision: 'fp16' } as unknown as TrainSettings;
  const [loras, states] = await trainingSpace({ checkpoint }, { settings, save_steps: [10, 20] });
  expect(loras).toEqual({ what: '3 saved LoRAs', bytes: expect.closeTo(3 * 240.6e6, -6) });
  expect(states).toEqual({ what: '3 states to go on from', bytes: 3 * 12 * 120_067_584 });
});

test('an average that is kept is one more LoRA, and a fourth number in a state', async () => {
  using folder = temporaryFolder();
  const checkpoint = folder.at('sdxl.safetensors');
  await writeHollowCheckpoint(checkpoint);
  const settings = { network: usual, save_precision: 'fp16', ema: 0.999 } as unknown as TrainSettings;
  const [loras, states] = await trainingSpace({ checkpoint }, { settings, save_steps: [] });
  expect(loras?.what).toBe('2 saved LoRAs');
  expect(states?.bytes).toBe(3 * 16 * 120_067_584);
});

test('other networks need more or less', async () => {
  using folder = temporaryFolder();
  const checkpoint = folder.at('sdxl.safetensors');
  await writeHollowCheckpoint(checkpoint);
  const millions = async (network: object) => {
    const settings = { network: { ...usual, ...network }, save_precision: 'fp32' } as unknown as TrainSettings;
    const [, states] = await trainingSpace({ checkpoint }, { settings, save_steps: [] });
    return Math.round((states?.bytes ?? 0) / 3 / 12 / 1e6);
  };
  expect(await millions({ preset: 'unet-only' })).toBe(113);
  expect(await millions({ kind: 'loha' })).toBe(240);
  expect(await millions({ dims: { OUT01: 16 } })).toBe(149);
  // The weights of all those layers themselves: 2.5 thousand million in the UNet, 0.7 in the text encoders.
  expect(await millions({ kind: 'full' })).toBeGreaterThan(3000);
  expect(await millions({ kind: 'lokr', factor: 8, full_matrix: true })).toBeGreaterThan(400);
});

test('too little space is told with both numbers, before anything is written', async () => {
  using folder = temporaryFolder();
  const needed = {
    doing: 'Training "raw"',
    parts: [
      { what: '81 saved LoRAs', bytes: 19.5e9 },
      { what: '3 states', bytes: 4.3e9 },
    ],
  };
  const error = await checkSpace(contextWith(folder.path, 1.1e9), needed).catch((reason: unknown) => reason);
  expect((error as StageFailure).failure).toMatchObject({
    kind: 'out-of-space',
    message: `Training "raw" needs 23.8 GB in "/store" (81 saved LoRAs: 19.5 GB, 3 states: 4.3 GB), and 1.1 GB are free.`,
  });
});

test('what a stopped training has written already is not asked for again', async () => {
  using folder = temporaryFolder();
  folder.write({ 'states/one': 'x'.repeat(600), 'steps/two': 'x'.repeat(300) });
  const needed = { doing: 'Training "raw"', parts: [{ what: 'all', bytes: 1000 }] };
  await checkSpace(contextWith(folder.path, 100), needed);
  await expect(checkSpace(contextWith(folder.path, 99), needed)).rejects.toBeInstanceOf(StageFailure);
});

test('sizes are written as disks are sold', () => {
  expect([0, 999, 1000, 1_440_000_000, 240e6, 5e15].map(formatBytes)).toEqual([
    '0 bytes',
    '999 bytes',
    '1.0 kB',
    '1.4 GB',
    '240 MB',
    '5000 TB',
  ]);
});

function contextWith(work: string, freeBytes: number): StageContext {
  return { work, store: { folder: '/store', freeBytes: async () => freeBytes } } as unknown as StageContext;
}

/** All of SDXL's header, and a hole where its 6.9 GB of weights would be. */
async function writeHollowCheckpoint(path: string): Promise<void> {
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, { shape }] of sdxlShapes()) {
    const begin = end;
    end += 2 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: 'F16', shape, data_offsets: [begin, end] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  await writeFile(path, Buffer.concat([length, text]));
  await truncate(path, 8 + text.length + end);
}
