// Makes a virtual environment from the lock file, with what pip says as progress.

import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { execa } from 'execa';
import { StageFailure } from '../events.ts';
import type { Interpreter } from './interpreter.ts';
import { LineSplitter } from './line-splitter.ts';
import type { LockFile } from './lock-file.ts';
import { LogTail } from './log-tail.ts';
import { packageVersions } from './packages.ts';
import { cleanPythonEnv } from './python-env.ts';
import type { TorchSource } from './torch-source.ts';

/** A sentence about what happens now; `done` of `total` packages where that can be said. */
export interface InstallProgress {
  readonly message: string;
  readonly done?: number;
  readonly total?: number;
}

interface Installation {
  readonly interpreter: Interpreter;
  readonly folder: string;
  /** The interpreter inside the folder, once it is made. */
  readonly python: string;
  readonly lock: LockFile;
  readonly source: TorchSource;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: InstallProgress) => void) | undefined;
}

/** What has to work for the worker to work. */
const SELF_TEST = `
import torch, numpy, PIL.Image, safetensors.torch, tokenizers
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
assert torch.linalg.svdvals(torch.eye(2)).sum() == 2
`;

/** Gives the versions of the main packages. What is left of a failed attempt is for the next one to remove. */
export async function install(installation: Installation): Promise<{ readonly [name: string]: string }> {
  const { interpreter, folder, python, lock, source, onProgress } = installation;
  await checkSpace(folder, source);
  const total = lock.pins.size;
  let done = 0;
  const tell = (message: string) => onProgress?.({ message, done: Math.min(done, total), total });
  const run = (doing: string, command: string, args: readonly string[]) =>
    runStep(installation, doing, command, args, (line) => {
      if (/^(Collecting|Processing|Requirement already satisfied)/.test(line)) done += 1;
      const message = spoken(line);
      if (message !== undefined) tell(message);
    });

  tell(`Making the worker's Python environment: about ${source.downloadMiB} MiB to download, once`);
  await run('making a virtual environment', interpreter.path, ['-m', 'venv', folder]);
  const index = await source.index();
  const pip = ['-m', 'pip', 'install', '--no-input', '--disable-pip-version-check', '--progress-bar', 'off'];
  await run('installing PyTorch', python, [
    ...pip,
    ...(index === undefined ? [] : ['--extra-index-url', index]),
    ...['--constraint', lock.path, `torch==${lock.pins.get('torch')}`],
  ]);
  await run('installing the other packages', python, [...pip, '--no-deps', '--requirement', lock.path]);
  done = total;
  tell('Trying the new environment');
  await run('trying what was installed', python, ['-c', SELF_TEST]);
  return packageVersions(python, installation.env);
}

async function runStep(
  { env, signal }: Installation,
  doing: string,
  command: string,
  args: readonly string[],
  onLine: (line: string) => void,
): Promise<void> {
  const tail = new LogTail();
  const lines = new LineSplitter({ limitBytes: 1 << 20, onLine, onTooLong: () => {} });
  const child = execa(command, args, {
    env: { ...cleanPythonEnv(env), HF_HUB_OFFLINE: '1' },
    extendEnv: false,
    stdin: 'ignore',
    encoding: 'buffer',
    buffer: false,
    reject: false,
    ...(signal ? { cancelSignal: signal } : {}),
  });
  child.stdout.on('data', (chunk: Buffer) => {
    tail.push(chunk);
    lines.push(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => tail.push(chunk));
  const result = await child;
  if (result.isCanceled) throw new StageFailure({ kind: 'cancelled', message: 'Stopped on request.' });
  if (!result.failed) return;
  tail.end();
  throw new StageFailure({
    kind: 'environment',
    message: `Setting up the worker's Python environment failed while ${doing}.`,
    hint: 'The last lines of the log say why. Building again tries again; LORAC_PYTHON names an interpreter of your own instead.',
    logTail: tail.lines.slice(-12),
  });
}

/** What of pip's talk a user may want to follow. */
function spoken(line: string): string | undefined {
  const taken = /^\s*(Downloading|Using cached) (?:\S*\/)?([\w.]+)-([^-\s]+)-\S+ \((.+)\)/.exec(line);
  if (taken?.[1] === 'Downloading') return `Downloading ${taken[2]} ${taken[3]} (${taken[4]})`;
  if (taken) return `Taking ${taken[2]} ${taken[3]} from an earlier download`;
  if (line.startsWith('Installing collected packages')) return 'Unpacking the downloaded packages';
  return undefined;
}

async function checkSpace(folder: string, source: TorchSource): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(folder));
  const freeMiB = Math.floor((bavail * bsize) / 2 ** 20);
  if (freeMiB >= source.installedMiB) return;
  throw new StageFailure({
    kind: 'out-of-space',
    message: `The worker's Python environment needs about ${source.installedMiB} MiB in "${dirname(folder)}", and ${freeMiB} MiB are free.`,
    hint: 'Free some space, or set LORAC_CACHE to a folder on another disk.',
  });
}
