// Has the worker do a stage's work, and keeps what is worth knowing about how it was done.

import type { Digest } from '../cache/digest.ts';
import { type FileProblem, StageFailure, type StageProgress } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import { absolutePath } from '../graph/paths.ts';
import type { StageContext, StageResult } from '../stage.ts';
import type { WorkerResult } from '../worker/client.ts';
import type { Work } from '../worker/protocol.ts';

export interface Answered extends WorkerResult {
  readonly record: NonNullable<StageResult['record']>;
}

/** Rejects with a `StageFailure`. Without `onProgress`, what the worker says is reported as it is. */
export async function askWorker(
  context: StageContext,
  work: Work,
  onProgress: (progress: StageProgress) => void = context.report,
): Promise<Answered> {
  const worker = await context.worker();
  const tell = (progress: StageProgress): void => onProgress(withPathsInLog(progress, context.imagePaths));
  const { outputs } = await worker.request(work, { signal: context.signal, onProgress: tell }).catch((error) => {
    throw error instanceof StageFailure ? withPaths(error, context.imagePaths) : error;
  });
  const { device, deviceName, torch, python, threads } = worker.hello;
  return { outputs, record: { device, deviceName, torch, python, threads } };
}

/**
 * As `askWorker`, for work that gives many files: each is published as soon as it is whole, one after another.
 * When one cannot be published the worker is stopped, and that is the failure.
 */
export async function askWorkerForFiles(
  context: StageContext,
  work: Work,
  publish: (name: string, path: AbsolutePath) => Promise<void>,
): Promise<Answered> {
  const broken = new AbortController();
  const signal = AbortSignal.any([context.signal, broken.signal]);
  let published: Promise<void> = Promise.resolve();
  const onProgress = (progress: StageProgress) => {
    if (progress.type !== 'artifact') return context.report(progress);
    published = published.then(() => publish(progress.name, absolutePath(progress.path)));
    published.catch(() => broken.abort());
  };
  try {
    return await askWorker({ ...context, signal }, work, onProgress);
  } finally {
    await published;
  }
}

function withPathsInLog(progress: StageProgress, paths: StageContext['imagePaths']): StageProgress {
  if (progress.type !== 'log') return progress;
  const message = progress.message.replace(/\b[0-9a-f]{64}\b/g, (digest) => paths.get(digest as Digest) ?? digest);
  return { ...progress, message };
}

/** The worker knows images of a training by their digests alone; a user knows them by their files. */
function withPaths({ failure }: StageFailure, paths: StageContext['imagePaths']): StageFailure {
  const named = ({ path, message }: FileProblem) => ({ path: paths.get(path as Digest) ?? path, message });
  return new StageFailure({ ...failure, problems: failure.problems.map(named) });
}
