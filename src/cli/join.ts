// lorac join HOST:PORT: this machine takes part in trainings that another one builds (`launch = torchrun`).

import { cleanLine } from '../parser/clean-text.ts';
import { isRendezvous } from '../parser/schema/launch.ts';
import { StageFailure } from '../runtime/events.ts';
import { joinTraining } from '../runtime/worker/join-training.ts';
import { installText } from './start-worker.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';
import { UsageError } from './usage-error.ts';

export interface Join {
  readonly rendezvous: string;
  readonly processes?: string;
  readonly once?: boolean;
}

export async function join({ rendezvous, processes, once = false }: Join): Promise<number> {
  if (!isRendezvous(rendezvous)) {
    throw new UsageError(`"${rendezvous}" is not a host and a port.`, 'Such as lorac join 192.168.1.20:29400');
  }
  const asked = processes === undefined ? {} : { processes: countOf('--processes', processes) };
  using stop = listenForStop();
  let told = '';
  try {
    return await joinTraining({
      rendezvous,
      ...asked,
      once,
      signal: stop.signal,
      onInstall: (progress) => {
        const text = cleanLine(installText(progress));
        if (text !== told) process.stderr.write(`${text}\n`);
        told = text;
      },
    });
  } catch (error) {
    if (stop.signal.aborted) return INTERRUPTED;
    if (!(error instanceof StageFailure)) throw error;
    const { message, hint } = error.failure;
    for (const line of [`error: ${message}`, ...(hint === undefined ? [] : [`hint: ${hint}`])])
      process.stderr.write(`${cleanLine(line)}\n`);
    return 1;
  }
}

function countOf(option: string, text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new UsageError(`${option} is "${text}", and has to be a whole number of at least 1.`);
}
