// Locks of the operating system: they die with their holder, so none is ever left behind by a kill.
//
// A lock is a file. Its holder writes its process id into it, for messages, and removes it when done.
// Whoever gets hold of a file that was removed meanwhile holds nothing, and tries again.

import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AbsolutePath } from '../graph/graph.ts';

export interface Lock {
  release(): void;
}

export interface LockOptions {
  readonly signal?: AbortSignal;
  /** Called once, when the lock has to be waited for. The process id is unknown where it cannot be read. */
  readonly onWait?: (holder: number | undefined) => void;
}

const POLL_MS = 100;

/** Waits until this caller alone holds the lock. Works between processes, and between two callers in one. */
export async function acquireLock(path: AbsolutePath, options: LockOptions = {}): Promise<Lock> {
  let told = false;
  for (;;) {
    options.signal?.throwIfAborted();
    const lock = await tryLock(path);
    if (lock) return lock;
    const holder = holderOf(path);
    if (!told && holder !== 'gone') {
      told = true;
      options.onWait?.(holder);
    }
    if (holder !== 'gone') await sleep(POLL_MS, undefined, options.signal ? { signal: options.signal } : {});
  }
}

/** The lock, or `undefined` when somebody has it. */
export async function tryLock(path: AbsolutePath): Promise<Lock | undefined> {
  // Loaded only here: a build that has nothing to do takes no lock.
  const { default: native } = await import('fs-native-extensions');
  const descriptor = openSync(path, 'a+');
  try {
    if (native.tryLock(descriptor) && isStillThere(descriptor, path)) {
      sign(descriptor);
      return { release: () => release(descriptor, path) };
    }
  } catch (error) {
    // What is open would hold the lock until this process ends.
    closeSync(descriptor);
    throw error;
  }
  closeSync(descriptor);
  return undefined;
}

function sign(descriptor: number): void {
  try {
    ftruncateSync(descriptor, 0);
    writeSync(descriptor, `${process.pid}\n`);
  } catch (error) {
    // On a full disk nobody learns who holds it.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
  }
}

function release(descriptor: number, path: AbsolutePath): void {
  rmSync(path, { force: true });
  closeSync(descriptor);
}

function isStillThere(descriptor: number, path: AbsolutePath): boolean {
  const named = statSync(path, { bigint: true, throwIfNoEntry: false });
  return named !== undefined && named.ino === fstatSync(descriptor, { bigint: true }).ino;
}

function holderOf(path: AbsolutePath): number | undefined | 'gone' {
  try {
    const holder = Number.parseInt(readFileSync(path, 'utf8'), 10);
    return Number.isNaN(holder) ? undefined : holder;
  } catch (error) {
    // EBUSY and EACCES: Windows does not let others read a locked file.
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'gone' : undefined;
  }
}
