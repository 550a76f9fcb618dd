// Finds a Python to build the worker's environment with: the newest that the lock file supports and that can make one.

import { execa } from 'execa';
import { StageFailure } from '../events.ts';

export const OLDEST = [3, 10] as const;
export const NEWEST = [3, 14] as const;

export interface Interpreter {
  /** Its own absolute path, as it says itself. */
  readonly path: string;
  readonly version: readonly [major: number, minor: number, patch: number];
}

/** What an interpreter says when it is asked; parsed from its JSON. */
interface Answer extends Interpreter {
  /** Standard modules that a system's packaging may have left out. */
  readonly missing: readonly string[];
}

const QUESTION = `
import importlib.util, json, sys
missing = [m for m in ("venv", "ensurepip", "ssl", "ctypes") if importlib.util.find_spec(m) is None]
print(json.dumps([sys.executable, list(sys.version_info[:3]), missing]))
`;

/** The newest usable interpreter. Throws `StageFailure` of kind `no-python` that says what was found instead. */
export async function findInterpreter(env: NodeJS.ProcessEnv = process.env): Promise<Interpreter> {
  const answers = (await Promise.all(candidates().map((command) => ask(command, env)))).filter(
    (answer) => answer !== undefined,
  );
  const supported = answers.filter(({ version }) => isSupported(version));
  const usable = supported.filter(({ missing }) => missing.length === 0);
  const [best] = usable.sort((a, b) => compareVersions(b.version, a.version));
  if (best !== undefined) return best;
  throw nothingUsable(answers, supported);
}

/** What one interpreter is, or `undefined` when the command is not there or is no Python 3. */
export async function askInterpreter(command: string): Promise<Interpreter | undefined> {
  return ask([command], process.env);
}

export function isSupported([major, minor]: Interpreter['version']): boolean {
  return major === 3 && minor >= OLDEST[1] && minor <= NEWEST[1];
}

function candidates(): readonly (readonly [string, ...string[]])[] {
  const minors = Array.from({ length: NEWEST[1] - OLDEST[1] + 1 }, (_, index) => NEWEST[1] - index);
  if (process.platform === 'win32') {
    return [...minors.map((minor) => ['py', `-3.${minor}`] as const), ['python'], ['python3']];
  }
  return [...minors.map((minor) => [`python3.${minor}`] as const), ['python3'], ['python']];
}

async function ask(
  [command, ...args]: readonly [string, ...string[]],
  env: NodeJS.ProcessEnv,
): Promise<Answer | undefined> {
  const result = await execa(command, [...args, '-I', '-c', QUESTION], {
    env,
    reject: false,
    timeout: 20_000,
    stdin: 'ignore',
  });
  if (result.failed) return undefined;
  try {
    const [path, version, missing] = JSON.parse(result.stdout) as [string, [number, number, number], string[]];
    return { path, version, missing };
  } catch {
    // Something else answers to that name.
    return undefined;
  }
}

function compareVersions(a: Interpreter['version'], b: Interpreter['version']): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

function nothingUsable(answers: readonly Answer[], supported: readonly Answer[]): StageFailure {
  const range = `${OLDEST.join('.')} to ${NEWEST.join('.')}`;
  const [broken] = supported;
  if (broken !== undefined) {
    const [major, minor] = broken.version;
    return new StageFailure({
      kind: 'no-python',
      message: `Python ${broken.version.join('.')} ("${broken.path}") lacks ${quoted(broken.missing)}, so no environment can be made with it.`,
      hint:
        process.platform === 'linux'
          ? `Install what is missing; on Debian and Ubuntu: sudo apt install python${major}.${minor}-venv`
          : 'Install Python from python.org, or set LORAC_PYTHON to an interpreter that has the needed packages.',
    });
  }
  const found = answers.map(({ version, path }) => `${version.join('.')} ("${path}")`);
  return new StageFailure({
    kind: 'no-python',
    message:
      found.length > 0
        ? `The worker needs Python ${range}, and only ${[...new Set(found)].join(', ')} was found.`
        : `The worker needs Python ${range}, and none was found on the PATH.`,
    hint:
      process.platform === 'linux'
        ? 'Install it; on Debian and Ubuntu: sudo apt install python3 python3-venv'
        : 'Install it from python.org, or set LORAC_PYTHON to the path of an interpreter.',
  });
}

function quoted(words: readonly string[]): string {
  return words.map((word) => `"${word}"`).join(', ');
}
