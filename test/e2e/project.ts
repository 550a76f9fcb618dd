// A project folder as a user has it: a base checkpoint, a folder of images with captions, a program.
// The commands are the real ones, in processes of their own, on the bundle that users run.

import { readdirSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { inject } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const cli = join(root, 'dist', 'cli.js');

/** The last line of a build with the JSON reporter. */
export interface Finished {
  readonly type: 'finished';
  readonly ok: boolean;
  readonly computed: readonly string[];
  readonly fresh: readonly string[];
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
  readonly elapsedMs: number;
}

export interface Outcome {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly elapsedMs: number;
}

export interface BuildOutcome extends Outcome {
  // biome-ignore lint/suspicious/noExplicitAny: events are read as a program of the user's would read them.
  readonly events: readonly any[];
  readonly finished: Finished;
}

/** The whole pipeline on the smallest base: seconds on one core. */
export const program = `# hero.lora
checkpoint base { path = "base.safetensors" }

dataset hero {
  images = "images"
  resolution = 64x64
  bucket = { min = 64  max = 128  step = 32 }
}

train raw {
  base = base
  data = hero
  network = locon { dim = 4  alpha = 2  conv_dim = 4  conv_alpha = 1 }
  steps = 6
  batch_size = 2
  gradient_accumulation_steps = 2
  mixed_precision = fp32
  save_every = 2
  state_every = 1
  sample = { every = 3  prompts = "prompts.txt"  sampler = euler_a }
}

resize small { from = raw  fro_ckpt = 1  thr = -3.55 }
chop tiny { from = small  keep = [OUT01] }
save "hero.safetensors" { from = tiny }
`;

export class Project {
  readonly folder: string;
  readonly #home: string;

  private constructor(folder: string, home: string) {
    this.folder = folder;
    this.#home = home;
  }

  /** A new project in a folder of its own, with the suite's base and pictures. */
  static async open(): Promise<Project> {
    const home = await mkdtemp(join(tmpdir(), 'lorac-e2e-'));
    const folder = join(home, 'project');
    await mkdir(folder);
    await cp(join(inject('inputs'), 'base.safetensors'), join(folder, 'base.safetensors'));
    await cp(join(inject('inputs'), 'images'), join(folder, 'images'), { recursive: true });
    await writeFile(join(folder, 'prompts.txt'), 'a red circle --w 64 --h 64 --s 2 --d 1\n');
    await writeFile(join(folder, 'hero.lora'), program);
    return new Project(folder, home);
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  async edit(name: string, change: (text: string) => string): Promise<void> {
    const before = await readFile(this.path(name), 'utf8');
    const after = change(before);
    if (after === before) throw new Error(`The edit of ${name} changes nothing`);
    await writeFile(this.path(name), after);
  }

  async bytes(name: string): Promise<Buffer> {
    return await readFile(this.path(name));
  }

  /** Moves the whole project, as a user does who tidies up. */
  async moveTo(name: string): Promise<Project> {
    const { rename } = await import('node:fs/promises');
    const target = join(this.#home, name);
    await rename(this.folder, target);
    return new Project(target, this.#home);
  }

  /** The same inputs in another folder, without anything that was built. */
  async copyInputs(name: string): Promise<Project> {
    const target = join(this.#home, name);
    await mkdir(target);
    for (const entry of readdirSync(this.folder)) {
      if (entry !== '.lorac' && entry !== 'hero.safetensors') {
        await cp(this.path(entry), join(target, entry), { recursive: true });
      }
    }
    return new Project(target, this.#home);
  }

  async lorac(args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
    const started = performance.now();
    const done = await start(this.folder, args, env);
    return {
      exitCode: done.exitCode,
      stdout: String(done.stdout),
      stderr: String(done.stderr),
      elapsedMs: performance.now() - started,
    };
  }

  async build(args: readonly string[] = [], env: Record<string, string> = {}): Promise<BuildOutcome> {
    const outcome = await this.lorac(['build', 'hero.lora', ...args, '--reporter', 'json'], env);
    return withEvents(outcome);
  }

  /** Starts a build and returns at once, for tests that end it badly. */
  startBuild(env: Record<string, string> = {}) {
    return start(this.folder, ['build', 'hero.lora', '--reporter', 'json'], env);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#home, { recursive: true, force: true });
  }
}

export function withEvents(outcome: Outcome): BuildOutcome {
  const events = outcome.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
  const finished = events.at(-1);
  if (finished?.type !== 'finished') {
    throw new Error(`The build did not finish:\n${outcome.stdout.slice(-2000)}\n${outcome.stderr.slice(-2000)}`);
  }
  return { ...outcome, events, finished };
}

/** The numbers of the optimizer steps that a build told of. */
export function stepsIn(events: BuildOutcome['events']): readonly number[] {
  return events
    .filter((event) => event.type === 'node-progress' && event.progress.type === 'step')
    .map((event) => event.progress.step);
}

function start(folder: string, args: readonly string[], env: Record<string, string>) {
  return execa(process.execPath, [cli, ...args], {
    cwd: folder,
    env: { NO_COLOR: '1', ...env },
    reject: false,
    stdin: 'ignore',
    maxBuffer: 64_000_000,
  });
}

/** Kills a process and everything below it at once, as a power cut does. */
export function killTree(pid: number): void {
  for (const each of [pid, ...descendants(pid)]) {
    try {
      process.kill(each, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** Every process whose chain of parents leads to `pid`, whatever process group it is in. */
export function descendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
    } catch {
      // It ended while we were reading.
    }
  }
  const found: number[] = [];
  const waiting = [pid];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const below = children.get(next) ?? [];
    found.push(...below);
    waiting.push(...below);
  }
  return found;
}
