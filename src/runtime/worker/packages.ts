// Which packages an interpreter has, without importing any of them.

import { execa } from 'execa';
import { cleanPythonEnv } from './python-env.ts';

/** The modules that the worker imports, and the packages that bring them. */
const NEEDED = {
  torch: 'torch',
  diffusers: 'diffusers',
  transformers: 'transformers',
  tokenizers: 'tokenizers',
  safetensors: 'safetensors',
  PIL: 'pillow',
  numpy: 'numpy',
  open_clip: 'open_clip_torch',
} as const;

const QUESTION = `
import importlib.metadata, importlib.util, json, sys
needed = json.loads(sys.argv[1])
def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
print(json.dumps({p: version(p) for m, p in needed.items() if importlib.util.find_spec(m) is not None}))
`;

/** The versions of those needed packages that an interpreter has. */
export async function packageVersions(
  python: string,
  env: NodeJS.ProcessEnv,
): Promise<{ readonly [name: string]: string }> {
  const options = { env: cleanPythonEnv(env), extendEnv: false, stdin: 'ignore' } as const;
  const { stdout } = await execa(python, ['-c', QUESTION, JSON.stringify(NEEDED)], options);
  return JSON.parse(stdout) as { [name: string]: string };
}

/** The names of the needed packages that an interpreter lacks. */
export async function missingPackages(python: string, env: NodeJS.ProcessEnv): Promise<readonly string[]> {
  const versions = await packageVersions(python, env);
  return Object.values(NEEDED).filter((name) => versions[name] === undefined);
}
