// How a request says which processes train.

import type { Launch } from '../worker/protocol.ts';

export type LaunchSettings =
  | { readonly kind: 'single' }
  | {
      readonly kind: 'torchrun';
      readonly processes?: number;
      readonly machines: number;
      readonly rendezvous?: string;
      readonly wait: { readonly seconds: number };
    };

/** Nothing where the worker trains alone: such a request is as it always was. */
export function launchOf(launch: LaunchSettings): { readonly launch?: Launch } {
  if (launch.kind === 'single') return {};
  const { processes, machines, rendezvous, wait } = launch;
  return {
    launch: {
      kind: 'torchrun',
      processes: processes ?? null,
      machines,
      rendezvous: rendezvous ?? null,
      wait_seconds: wait.seconds,
    },
  };
}
