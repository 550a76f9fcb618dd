// What a user relies on, from images to the saved file, with the real worker.

import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { cp, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Project, program } from './project.ts';

const everyNode = [
  'base',
  'hero:manifest',
  'raw:latents',
  'raw',
  'raw:samples',
  'raw:decompose',
  'base:frobenius',
  'small',
  'tiny',
  'hero.safetensors',
];

describe('a project, built and changed', () => {
  let project: Project;
  let firstBytes: Buffer;

  beforeAll(async () => {
    project = await Project.open();
  });
  afterAll(async () => await project[Symbol.asyncDispose]());

  test('the first build trains, shrinks, chops and saves', async () => {
    const { exitCode, finished } = await project.build();
    expect(exitCode).toBe(0);
    expect([...finished.computed].sort()).toEqual([...everyNode].sort());
    expect(finished.failed).toEqual([]);
    firstBytes = await project.bytes('hero.safetensors');
  }, 180_000);

  test('the saved file holds the kept block, the text encoders, and true hashes', async () => {
    const { names, metadata, data } = openSafetensors(firstBytes);
    const outside = names.filter(
      (name) => !name.startsWith('lora_unet_output_blocks_1_') && !/^lora_te[12]_text_model_/.test(name),
    );
    expect(outside).toEqual([]);
    expect(names.some((name) => name.startsWith('lora_unet_output_blocks_1_'))).toBe(true);
    expect(metadata.ss_base_model_version).toBe('sdxl_base_v1-0');
    expect(metadata.ss_output_name).toBe('hero');
    expect(metadata['modelspec.title']).toBe('hero');
    expect(metadata.sshs_model_hash).toBe(createHash('sha256').update(data).digest('hex'));
  });

  test('building again runs nothing and starts no Python', async () => {
    const { exitCode, finished, events, elapsedMs } = await project.build([], { LORAC_PYTHON: '/nonexistent/python' });
    expect(exitCode).toBe(0);
    expect(finished.computed).toEqual([]);
    expect(events.filter((event) => event.type === 'worker')).toEqual([]);
    expect(elapsedMs).toBeLessThan(5_000);
  });

  test('comments, order, spelling, time stamps and the place of the folder rebuild nothing', async () => {
    await project.edit('hero.lora', (text) => {
      const blocks = text.trim().split(/\n\n+/).reverse();
      return `# turned round\n${blocks.join('\n\n').replace('thr = -3.55', 'thr = -355e-2')}\n`;
    });
    for (const name of readdirSync(project.path('images')))
      await utimes(project.path('images', name), new Date(), new Date());
    await utimes(project.path('base.safetensors'), new Date(), new Date());
    project = await project.moveTo('elsewhere');
    const { finished } = await project.build();
    expect(finished.computed).toEqual([]);
    await writeFile(project.path('hero.lora'), program);
  });

  test('another threshold resizes and what follows, without Python', async () => {
    await project.edit('hero.lora', (text) => text.replace('thr = -3.55', 'thr = -3.0'));
    const { finished } = await project.build([], { LORAC_PYTHON: '/nonexistent/python' });
    expect([...finished.computed].sort()).toEqual(['hero.safetensors', 'small', 'tiny']);
    await writeFile(project.path('hero.lora'), program);
  });

  test('a deleted result is placed again, without any stage', async () => {
    await project.build();
    await rm(project.path('hero.safetensors'));
    const { finished } = await project.build();
    expect(finished.computed).toEqual(['hero.safetensors']);
    expect(await project.bytes('hero.safetensors')).toEqual(firstBytes);
  });

  test('one edited caption trains again and encodes no image', async () => {
    const caption = readdirSync(project.path('images')).find((name) => name.endsWith('.txt'));
    const before = await readFile(project.path('images', caption ?? ''), 'utf8');
    await writeFile(project.path('images', caption ?? ''), `${before.trim()}, smiling\n`);
    const { finished } = await project.build();
    expect(finished.computed).toContain('raw');
    expect(finished.fresh).toContain('raw:latents');
    expect(finished.fresh).toContain('base:frobenius');
    await writeFile(project.path('images', caption ?? ''), before);
  }, 180_000);

  test('one more image encodes one image', async () => {
    const image = readdirSync(project.path('images')).find((name) => name.endsWith('.png')) ?? '';
    const bytes = await readFile(project.path('images', image));
    // A text chunk before IEND makes another file of the same picture.
    const chunk = pngText('Comment', 'another file');
    await writeFile(
      project.path('images', 'extra.png'),
      Buffer.concat([bytes.subarray(0, -12), chunk, bytes.subarray(-12)]),
    );
    await cp(project.path('images', image.replace('.png', '.txt')), project.path('images', 'extra.txt'));
    const { finished, events } = await project.build(['raw:latents']).catch(async () => await project.build(['raw']));
    expect(finished.computed).toContain('raw:latents');
    const totals = events
      .filter(
        (event) => event.type === 'node-progress' && event.node === 'raw:latents' && event.progress.type === 'progress',
      )
      .map((event) => event.progress.total);
    expect(Math.max(...totals)).toBeLessThanOrEqual(2);
    await rm(project.path('images', 'extra.png'));
    await rm(project.path('images', 'extra.txt'));
  }, 180_000);
});

function openSafetensors(bytes: Buffer): { names: string[]; metadata: Record<string, string>; data: Buffer } {
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString('utf8'));
  const { __metadata__: metadata, ...tensors } = header;
  return { names: Object.keys(tensors), metadata, data: bytes.subarray(8 + length) };
}

function pngText(key: string, value: string): Buffer {
  const body = Buffer.concat([Buffer.from('tEXt', 'latin1'), Buffer.from(`${key}\0${value}`, 'latin1')]);
  const chunk = Buffer.alloc(8 + body.length);
  chunk.writeUInt32BE(body.length - 4, 0);
  body.copy(chunk, 4);
  chunk.writeInt32BE(crc32(body), 4 + body.length);
  return chunk;
}

function crc32(bytes: Buffer): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}
