// What `lorac env` says: where the worker's environment is, what is in it, and how to make it again.

import { ensureEnvironment, environmentsFolder, findEnvironment, installedVersions } from './environment.ts';
import { readLockFile } from './lock-file.ts';
import { packageVersions } from './packages.ts';
import { torchSource } from './torch-source.ts';

export interface EnvironmentReport {
  /** `own`: LORAC_PYTHON names the user's interpreter. `missing`: it is made when a stage first needs it. */
  readonly status: 'own' | 'made' | 'missing';
  readonly python: string | undefined;
  /** The folder of the environment, or the one that environments are made in. */
  readonly folder: string;
  readonly versions: { readonly [name: string]: string };
  /** The packages that the lock file pins. */
  readonly locked: { readonly [name: string]: string };
  readonly lockFile: string;
  /** A sentence on how to make it, or make it again. */
  readonly remake: string;
}

/** Installs nothing. Throws `StageFailure` when LORAC_PYTHON names something unusable. */
export async function describeEnvironment(env: NodeJS.ProcessEnv = process.env): Promise<EnvironmentReport> {
  const lock = readLockFile();
  const common = { locked: Object.fromEntries(lock.pins), lockFile: lock.path };
  if (env.LORAC_PYTHON) {
    const { python } = await ensureEnvironment({ env });
    const remake = 'It is yours: lorac installs nothing into it. Unset LORAC_PYTHON to let lorac make its own.';
    return { status: 'own', python, folder: '', versions: await packageVersions(python, env), remake, ...common };
  }
  const found = findEnvironment(env);
  if (found?.folder === undefined) {
    const folder = environmentsFolder(env);
    const { downloadMiB } = torchSource(env);
    const remake = `It is made when a build first needs it, or by "lorac env --python": about ${downloadMiB} MiB to download.`;
    return { status: 'missing', python: undefined, folder, versions: {}, remake, ...common };
  }
  const { python, packages } = installedVersions(found.folder);
  const remake = `To make it again, delete the folder "${found.folder}"; the next build, or "lorac env --python", makes it anew.`;
  return {
    status: 'made',
    python: found.python,
    folder: found.folder,
    versions: { python, ...packages },
    remake,
    ...common,
  };
}
