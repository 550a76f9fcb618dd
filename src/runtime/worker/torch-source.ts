// Which build of torch to install, and from where: CUDA's is ten times as large as the CPU's.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const CPU_INDEX = 'https://download.pytorch.org/whl/cpu';
const PROBE_MS = 3_000;

export interface TorchSource {
  /** Part of the environment's name. */
  readonly variant: string;
  /** For the message before the download, all packages together. */
  readonly downloadMiB: number;
  /** How much the environment takes when it is installed. */
  readonly installedMiB: number;
  /** An index beside the user's own, asked for when it is needed: whether it can be reached is found out then. */
  index(): Promise<string | undefined>;
}

/** Decided by what the machine has, never by what the network says, so that the same machine finds its environment again. */
export function torchSource(env: NodeJS.ProcessEnv = process.env): TorchSource {
  const chosen = env.LORAC_TORCH_INDEX;
  if (chosen) {
    const variant = `index-${createHash('sha256').update(chosen).digest('hex').slice(0, 8)}`;
    return { variant, downloadMiB: 2_000, installedMiB: 6_000, index: async () => chosen };
  }
  if (process.platform !== 'linux') {
    return { variant: 'default', downloadMiB: 250, installedMiB: 1_200, index: async () => undefined };
  }
  if (hasNvidiaDriver()) {
    return { variant: 'cuda', downloadMiB: 2_800, installedMiB: 7_000, index: async () => undefined };
  }
  return {
    variant: 'cpu',
    downloadMiB: 300,
    installedMiB: 1_400,
    index: async () => ((await isReachable(CPU_INDEX)) ? CPU_INDEX : undefined),
  };
}

/** Whether this machine has a driver for NVIDIA cards, in plain Linux or under Windows' Linux. */
function hasNvidiaDriver(): boolean {
  return (
    existsSync('/dev/nvidiactl') ||
    existsSync('/proc/driver/nvidia/version') ||
    existsSync(join('/usr', 'lib', 'wsl', 'lib', 'libcuda.so.1'))
  );
}

async function isReachable(index: string): Promise<boolean> {
  try {
    const response = await fetch(`${index}/torch/`, { method: 'HEAD', signal: AbortSignal.timeout(PROBE_MS) });
    return response.ok;
  } catch {
    // No network, no such host, or too slow: the user's own index has to do.
    return false;
  }
}
