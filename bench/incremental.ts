// npm run bench:incremental — what a build costs that has nothing to do.
//
// The project has 5,000 captioned images and a checkpoint of SDXL's size (6.9 GB, sparse: names and shapes are real,
// the numbers are zeros). Only native stages run, so no Python is needed.
//
// The floor is `node -e 0`: no tool in Node can be faster. What comes on top is the program's check, one `stat` for
// each file, and the reading of the store's notes; no image and no byte of the checkpoint is read again.

import { mkdir, mkdtemp, open, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import { execa } from 'execa';

const IMAGES = 5_000;
const ROUNDS = 15;

const root = resolve(import.meta.dirname, '..');
const cli = join(root, 'dist', 'cli.js');
const folder = await mkdtemp(join(tmpdir(), 'lorac-bench-'));

try {
  await makeProject();
  const first = await timed('lorac');
  const rows = { floor: [] as number[], lorac: [] as number[] };
  // In turns, so that whatever else the machine does falls on both.
  for (let round = 0; round < ROUNDS; round += 1) {
    rows.floor.push(await timed('floor'));
    rows.lorac.push(await timed('lorac'));
  }
  await touchEverything();
  const touched = await timed('lorac');
  report(first, touched, rows);
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** Milliseconds of a whole process, from start to exit. */
async function timed(what: 'floor' | 'lorac'): Promise<number> {
  const args =
    what === 'floor' ? ['-e', '0'] : [cli, 'build', 'hero.lora', 'pony', 'hero:manifest', '--reporter', 'json'];
  const started = performance.now();
  await execa(process.execPath, args, { cwd: folder, stdin: 'ignore' });
  return performance.now() - started;
}

function report(first: number, touched: number, rows: { readonly floor: number[]; readonly lorac: number[] }): void {
  const [floor, lorac] = [median(rows.floor), median(rows.lorac)];
  const line = (name: string, milliseconds: number, note = '') =>
    console.log(`${name.padEnd(34)} ${milliseconds.toFixed(0).padStart(7)} ms  ${note}`);
  console.log(
    `${IMAGES} images, a checkpoint of 6.9 GB; medians of ${ROUNDS}; ${cpus()[0]?.model}, ${cpus().length} cores`,
  );
  line('node -e 0 (the floor)', floor);
  line(
    'nothing changed',
    lorac,
    `${(lorac / floor).toFixed(1)} × the floor, lowest ${Math.min(...rows.lorac).toFixed(0)} ms`,
  );
  line('everything touched, bytes the same', touched, 'every byte is read once more');
  line('the first build', first, 'every byte is read once');
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] as number;
}

async function makeProject(): Promise<void> {
  const images = join(folder, 'images');
  await mkdir(images);
  for (let index = 0; index < IMAGES; index += 1) {
    const name = join(images, String(index).padStart(5, '0'));
    await writeFile(`${name}.png`, picture(index));
    await writeFile(`${name}.txt`, `hero, picture ${index}`);
  }
  await makeCheckpoint(join(folder, 'pony.safetensors'));
  await writeFile(
    join(folder, 'hero.lora'),
    [
      'checkpoint pony { path = "pony.safetensors" }',
      'dataset hero { images = "images" }',
      'train raw { base = pony  data = hero }',
      'save "hero.safetensors" { from = raw }',
      '',
    ].join('\n'),
  );
}

/** Every tensor of SDXL in F16, and no data on the disk. */
async function makeCheckpoint(path: string): Promise<void> {
  const keys = JSON.parse(await readFile(join(root, 'test', 'fixtures', 'sdxl-keys.json'), 'utf8'));
  const shapes: { readonly [key: string]: readonly number[] } = { ...keys.unet, ...keys.te1, ...keys.te2, ...keys.vae };
  const header: { [key: string]: unknown } = {};
  let end = 0;
  for (const key of Object.keys(shapes).sort()) {
    const shape = shapes[key] as readonly number[];
    const begin = end;
    end += 2 * shape.reduce((product, side) => product * side, 1);
    header[key] = { dtype: 'F16', shape, data_offsets: [begin, end] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  await using file = await open(path, 'w');
  await file.write(Buffer.concat([length, padded]));
  await file.truncate(8 + padded.length + end);
}

/** A small PNG, different for each index. */
function picture(index: number): Buffer {
  const side = 64;
  const rows = Buffer.alloc(side * (1 + 3 * side));
  for (let at = 0; at < rows.length; at += 1) rows[at] = at % (1 + 3 * side) === 0 ? 0 : (at * 7 + index * 13) % 256;
  const size = Buffer.alloc(13);
  size.writeUInt32BE(side, 0);
  size.writeUInt32BE(side, 4);
  size.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk('IHDR', size),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const framed = Buffer.alloc(body.length + 8);
  framed.writeUInt32BE(data.length, 0);
  body.copy(framed, 4);
  framed.writeUInt32BE(crc32(body), body.length + 4);
  return framed;
}

async function touchEverything(): Promise<void> {
  const now = new Date();
  for (let index = 0; index < IMAGES; index += 1) {
    const name = join(folder, 'images', String(index).padStart(5, '0'));
    await utimes(`${name}.png`, now, now);
    await utimes(`${name}.txt`, now, now);
  }
  await utimes(join(folder, 'pony.safetensors'), now, now);
}
