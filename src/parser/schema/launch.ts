// The rows of the schema table for processes: how many train, and on which machines.

import { duration, integer, optional, preset, tagged, text } from './types.ts';

export const launch = tagged({
  single: {},
  torchrun: {
    processes: optional(
      integer({ min: 1, max: 1024 }),
      'How many are started on each machine. Without it, one for each GPU.',
      { synonyms: ['nproc_per_node', 'num_processes', 'gpus', 'devices', 'num_gpus'] },
    ),
    machines: preset(
      integer({ min: 1, max: 1024 }),
      1,
      'How many machines take part, the one that builds among them. On each of the others, lorac join waits for the training.',
      { synonyms: ['nnodes', 'num_machines', 'nodes', 'num_nodes'] },
    ),
    rendezvous: optional(
      text(),
      'Where the machines meet: HOST:PORT by which the others reach the one that builds, such as "192.168.1.20:29400".',
      { synonyms: ['rdzv_endpoint', 'endpoint', 'master_addr', 'main_process_ip'] },
    ),
    wait: preset(duration(), { seconds: 900 }, 'How long to wait for the other machines.', {
      synonyms: ['rdzv_timeout', 'join_timeout', 'timeout'],
    }),
  },
});

/** What a rendezvous has to look like. */
export const isRendezvous = (text: string): boolean => /^\S+:\d{1,5}$/.test(text);
