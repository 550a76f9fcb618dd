// A command of the user's own. It reads its inputs where they are told to lie, and writes its outputs into a folder
// inside of the work folder; they are stored when it has ended well. Each attempt has a folder of its own, so that
// what an earlier one left, or still writes, is never taken for a result.
//
// Inputs `in.NAME` are artifacts, copied so that no command can change what is stored, or files of the user's, which
// stay where they are. Outputs are `out.NAME`.

import { constants } from 'node:fs';
import { copyFile, lstat, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { splitCommand } from '../../parser/command.ts';
import { StageFailure } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import { absolutePath, pathIn } from '../graph/paths.ts';
import { type Ended, runCommand } from '../shell/run-command.ts';
import type { Stage, StageContext } from '../stage.ts';
import { inputOf } from './input-of.ts';

interface Attributes {
  readonly command: string;
  /** How the paths of artifacts end, by name. Files of the user's are not among them. */
  readonly suffixes: { readonly [name: string]: string };
  /** Where outputs lie in their folder, by name. */
  readonly outputs: { readonly [name: string]: string };
  readonly env: { readonly [variable: string]: string };
}

type Paths = { readonly [name: string]: AbsolutePath };

/** A command that prints without end is heard this often. */
const SAY_EVERY_MS = 1_000;

export const run: Stage = {
  name: 'run',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run(context) {
    const folder = await freshFolder(context);
    try {
      return { outputs: await attempt(context, folder) };
    } catch (error) {
      // Nothing can go on from there, and half of an output may be all that the disk had room for.
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  },
};

/** Of this attempt alone. */
async function freshFolder({ work }: StageContext): Promise<AbsolutePath> {
  for (const name of await readdir(work)) await rm(pathIn(work, name), { recursive: true, force: true });
  return absolutePath(await mkdtemp(pathIn(work, 'run-')));
}

async function attempt(context: StageContext, folder: AbsolutePath): Promise<Paths> {
  const { command, outputs } = attributesOf(context);
  const written = Object.fromEntries(
    Object.entries(outputs).map(([name, path]) => [name, pathIn(folder, 'outputs', path)]),
  );
  for (const path of Object.values(written)) await mkdir(dirname(path), { recursive: true });
  const paths: Paths = { ...(await layInputs(context, folder)), ...written };
  await finish(context, command, paths);
  for (const [name, path] of Object.entries(written)) await requireFile(context, name, path);
  return Object.fromEntries(Object.entries(written).map(([name, path]) => [`out.${name}`, path]));
}

async function layInputs(context: StageContext, folder: AbsolutePath): Promise<Paths> {
  const { suffixes } = attributesOf(context);
  const paths: { [name: string]: AbsolutePath } = {};
  for (const role of Object.keys(context.inputs).filter((each) => each.startsWith('in.'))) {
    const name = role.slice('in.'.length);
    const { path } = inputOf(context, role);
    const suffix = suffixes[name];
    if (suffix === undefined) {
      paths[name] = path;
      continue;
    }
    const copy = pathIn(folder, 'inputs', `${name}${suffix}`);
    await mkdir(dirname(copy), { recursive: true });
    // Shares the bytes on the disk where the file system can.
    await copyFile(path, copy, constants.COPYFILE_FICLONE);
    paths[name] = copy;
  }
  return paths;
}

/** Runs the command to its good end, telling what it prints. Throws a `StageFailure` for any other end. */
async function finish(context: StageContext, command: string, paths: Paths): Promise<void> {
  const { pieces, names } = splitCommand(command);
  const { folder } = context.node.settings as unknown as { readonly folder: string };
  let latest: string | undefined;
  const say = () => {
    if (latest !== undefined) context.report({ type: 'log', level: 'info', message: latest });
    latest = undefined;
  };
  const timer = setInterval(say, SAY_EVERY_MS);
  try {
    const ended = await runCommand({
      pieces,
      paths: names.map((name) => pathOf(paths, name)),
      folder,
      env: { ...process.env, ...attributesOf(context).env },
      signal: context.signal,
      onOutput: (line) => {
        latest = line;
      },
    });
    say();
    requireGoodEnd(context, ended);
  } finally {
    clearInterval(timer);
  }
}

function requireGoodEnd({ node: { id } }: StageContext, ended: Ended): void {
  if (ended.status === 'no-bash') {
    throw new StageFailure({
      kind: 'no-shell',
      message: `The command of "${id}" needs bash, and there is none.`,
      hint: 'Install it (on Windows it comes with Git) and make sure that it can be found on the PATH.',
    });
  }
  const { tail: logTail } = ended;
  if (ended.status === 'killed') {
    const message = `The command of "${id}" was ended by ${ended.signal}.`;
    throw new StageFailure({ kind: 'command', message, logTail });
  }
  if (ended.exitCode === 0) return;
  const hint = { 126: 'It names a file that may not be executed.', 127: 'It names a program that is not there.' }[
    ended.exitCode
  ];
  const message = `The command of "${id}" ended with exit code ${ended.exitCode}.`;
  throw new StageFailure({ kind: 'command', message, hint, logTail });
}

async function requireFile({ node }: StageContext, name: string, path: AbsolutePath): Promise<void> {
  const facts = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
  });
  if (facts?.isFile()) return;
  const what = facts === undefined ? 'is not there' : facts.isDirectory() ? 'is a folder' : 'is no ordinary file';
  throw new StageFailure({
    kind: 'no-output',
    message: `The command of "${node.id}" ended well, and its output "${name}" ${what}.`,
    hint: `It has to write a file to {${name}}.`,
  });
}

function pathOf(paths: Paths, name: string): AbsolutePath {
  const path = paths[name];
  if (path === undefined) throw new Error(`Internal error: the command names "${name}", which is nothing.`);
  return path;
}

function attributesOf({ node }: StageContext): Attributes {
  return node.attributes as unknown as Attributes;
}
