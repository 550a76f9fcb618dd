// What limits how many nodes run side by side. A node waits for its pool before it waits for any lock,
// so no process ever holds a lock while it waits for one of its own.

import { availableParallelism } from 'node:os';
import type { Pool } from '../stage.ts';

export type PoolSizes = { readonly [pool in Pool]: number };

/** One on the GPU, as many as cores on the CPU, a few on the disk. */
export function defaultPools(): PoolSizes {
  return { gpu: 1, cpu: availableParallelism(), io: 4 };
}

export class Pools {
  readonly #free: { [pool in Pool]: number };
  readonly #waiting: { readonly [pool in Pool]: (() => void)[] } = { gpu: [], cpu: [], io: [] };

  constructor(sizes: PoolSizes) {
    this.#free = { ...sizes };
  }

  /** Runs `work` when the pool has room for it. First come, first served. */
  async within<Value>(pool: Pool, work: () => Promise<Value>): Promise<Value> {
    if (this.#free[pool] > 0) this.#free[pool] -= 1;
    else await new Promise<void>((resolve) => this.#waiting[pool].push(resolve));
    try {
      return await work();
    } finally {
      // The place goes straight to whoever waits longest.
      const next = this.#waiting[pool].shift();
      if (next) next();
      else this.#free[pool] += 1;
    }
  }
}
