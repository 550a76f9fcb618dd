// npm run bench:surgery — what inspect, chop and resize cost on files of full size.
//
// Whole processes, from start to exit, on a LoRA of 1,052 modules (240 MB) and a base of 6.9 GB that are made here.
// They are held against plain files alone: `cp` and `sha256sum` of the same bytes, and reading the base from the disk.
// The floor of a job is the bytes it has to move over the rate at which this machine moved such bytes a moment before.
//
// LORAC_BENCH_FOLDER keeps the two files, so that a second run need not make them.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { makeBase, makeLora } from './full-size.ts';

const ROUNDS = 7;
const COLD_ROUNDS = 3;
const GIB = 2 ** 30;

const cli = join(resolve(import.meta.dirname, '..'), 'dist', 'cli.js');
const kept = process.env.LORAC_BENCH_FOLDER;
const folder = kept ?? (await mkdtemp(join(tmpdir(), 'lorac-bench-')));
const [base, lora, scratch] = ['base.safetensors', 'full.safetensors', 'scratch'].map((name) => join(folder, name)) as [
  string,
  string,
  string,
];

interface Seen {
  readonly seconds: number;
  /** Of all processes together, as the system counts it; 0 where it does not say. */
  readonly peakBytes: number;
}

try {
  await mkdir(scratch, { recursive: true });
  if (!existsSync(base)) await makeBase(base);
  if (!existsSync(lora)) await makeLora(lora);
  const [baseBytes, loraBytes] = [(await stat(base)).size, (await stat(lora)).size];
  console.log(
    `LoRA ${megabytes(loraBytes)}, base ${megabytes(baseBytes)}; ${cpus()[0]?.model}, ${cpus().length} cores`,
  );
  console.log(`medians of ${ROUNDS}, of ${COLD_ROUNDS} where the base is read; whole processes\n`);
  const python = (await execa(process.execPath, [cli, 'env', '--python'])).stdout.trim();

  const start = await median(ROUNDS, () => timed(process.execPath, ['-e', '0']));
  row('node -e 0', start, 'the floor of every command here');
  const copied = await median(ROUNDS, () => shell(`cp ${lora} ${scratch}/copy`, `sha256sum ${lora}`));
  row('cp + sha256sum of the LoRA', copied, `${megabytes(loraBytes / copied.seconds)}/s`);

  row('inspect, header', await median(ROUNDS, () => lorac('inspect', lora, '--no-hashes')), 'asked: 0.25 s');
  row('inspect, with hashes', await median(ROUNDS, () => lorac('inspect', lora)), 'asked: 0.6 s');
  row('chop to one block', await median(ROUNDS, () => chop('OUT01')), 'asked: 0.19 s');
  const all = await median(ROUNDS, () => chop('IN,MID,OUT,TE,REST'));
  row('chop to all blocks', all, `${(all.seconds / copied.seconds).toFixed(2)} × cp + sha256sum; asked: 1.3`);

  await shell(`cat ${base} > /dev/null`);
  const read = await median(COLD_ROUNDS, () => shell(`cat ${base} > /dev/null`));
  row('cat base, in the page cache', read, `${megabytes(baseBytes / read.seconds)}/s`);
  const fresh = await median(COLD_ROUNDS, async () => {
    await forget();
    return resize('fro_ckpt=1,thr=-3.55');
  });
  const memory = `peak ${(fresh.peakBytes / GIB).toFixed(2)} GiB`;
  row('resize, nothing stored', fresh, `${memory}; asked: 9 s, 3 GB`);
  // Each run asks for what no run before it asked for.
  let asked = 0;
  const fraction = () => {
    asked += 1;
    return asked / 1000;
  };
  const near = await median(ROUNDS, () => resize(`fro_ckpt=1,thr=${(-3.55 - fraction()).toFixed(3)}`));
  row('resize, another threshold', near, `${await lastSize()} out; asked: 1 s`);
  const everything = await median(ROUNDS, () => resize(`fro_ckpt=1,thr=${(-20 - fraction()).toFixed(3)}`));
  row('resize, all kept', everything, `${await lastSize()} out; asked: 2 s`);
  const sweep = await median(ROUNDS, () => {
    const less = fraction();
    return resize(...[-3, -3.2, -3.4, -3.6, -3.8].map((thr) => `fro_ckpt=1,thr=${(thr - less).toFixed(3)}`));
  });
  row('resize, five thresholds', sweep, 'asked: 3 s');

  if (process.platform === 'linux') {
    const cold = await median(COLD_ROUNDS, async () => {
      await evict(python, base);
      return shell(`cat ${base} > /dev/null`);
    });
    row('cat base, from the disk', cold, `${megabytes(baseBytes / cold.seconds)}/s`);
    const coldResize = await median(COLD_ROUNDS, async () => {
      await forget();
      await evict(python, base, lora);
      return resize('fro_ckpt=1,thr=-3.55');
    });
    row(
      'resize, nothing stored, from the disk',
      coldResize,
      `${(coldResize.seconds / cold.seconds).toFixed(2)} × reading the base; asked: 1.3`,
    );
  }
} finally {
  await rm(scratch, { recursive: true, force: true });
  if (kept === undefined) await rm(folder, { recursive: true, force: true });
}

function lorac(...args: readonly string[]): Promise<Seen> {
  return timed(process.execPath, [cli, ...args]);
}

function chop(blocks: string): Promise<Seen> {
  return lorac(
    'chop',
    lora,
    '--keep',
    blocks,
    '--text-encoders',
    'drop',
    '-o',
    join(scratch, 'chopped'),
    '--overwrite',
  );
}

function resize(...recipes: readonly string[]): Promise<Seen> {
  return lorac('resize', base, lora, '-r', recipes.join(':'), '-o', join(scratch, 'out'), '--overwrite');
}

function shell(...commands: readonly string[]): Promise<Seen> {
  return timed('sh', ['-c', commands.join(' && ')]);
}

/** A store that holds nothing. */
async function forget(): Promise<void> {
  await rm(join(scratch, 'store'), { recursive: true, force: true });
}

/** Has the system forget what it keeps of files in memory, so that they come from the disk. */
async function evict(python: string, ...files: readonly string[]): Promise<void> {
  const code =
    'import os,sys\nfor f in sys.argv[1:]:\n d=os.open(f,os.O_RDONLY); os.fsync(d); os.posix_fadvise(d,0,0,os.POSIX_FADV_DONTNEED)';
  await execa(python, ['-c', code, ...files]);
}

async function timed(program: string, args: readonly string[]): Promise<Seen> {
  const started = performance.now();
  const child = execa(program, args, {
    stdin: 'ignore',
    env: { LORAC_STORE: join(scratch, 'store'), LORAC_REPORTER: 'plain' },
  });
  let peakBytes = 0;
  const watch = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(child.pid ?? 0));
  }, 50);
  try {
    await child;
  } finally {
    clearInterval(watch);
  }
  return { seconds: (performance.now() - started) / 1000, peakBytes };
}

/** What a process and all that it started have in memory, mapped files included. */
function residentBytes(pid: number): number {
  try {
    const [, pages = '0'] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ');
    const tasks = readdirSync(`/proc/${pid}/task`);
    const children = tasks.flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
    );
    return Number(pages) * 4096 + children.reduce((sum, child) => sum + residentBytes(Number(child)), 0);
  } catch {
    // It has ended, or this system has no such files.
    return 0;
  }
}

async function median(rounds: number, measure: () => Promise<Seen>): Promise<Seen> {
  const seen: Seen[] = [];
  for (let round = 0; round < rounds; round += 1) seen.push(await measure());
  const sorted = seen.toSorted((a, b) => a.seconds - b.seconds);
  const peakBytes = Math.max(...seen.map((each) => each.peakBytes));
  return { seconds: sorted[Math.floor(rounds / 2)]?.seconds ?? Number.NaN, peakBytes };
}

/** Of the file that was written last. */
async function lastSize(): Promise<string> {
  const files = await Promise.all(
    readdirSync(join(scratch, 'out')).map(async (name) => stat(join(scratch, 'out', name))),
  );
  return megabytes(files.toSorted((a, b) => b.mtimeMs - a.mtimeMs)[0]?.size ?? 0);
}

function row(job: string, { seconds }: Seen, note: string): void {
  console.log(`${job.padEnd(40)} ${seconds.toFixed(2).padStart(6)} s   ${note}`);
}

function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(0)} MB`;
}
