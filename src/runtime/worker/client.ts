// The CLI's end of the pipe to one worker process.
//
// Rules:
// - Every request ends exactly once: with the worker's result, or with a `StageFailure`.
// - When the process ends, or says something that is no message, every pending request fails with the same reason
//   and the last lines of the log.
// - To stop a request: a `cancel` message, SIGTERM when a grace period has passed, then SIGKILL.
//   The worker is usable again when it answered in time.
// - The worker has a process group of its own, so a Ctrl-C in the terminal reaches the CLI alone.
//   It ends by itself when its stdin does, so a killed CLI leaves nothing behind.

import { execa } from 'execa';
import { unreachable } from '../../parser/unreachable.ts';
import { type Failure, StageFailure, type StageProgress } from '../events.ts';
import { LineSplitter } from './line-splitter.ts';
import { LogTail } from './log-tail.ts';
import { ProtocolError, parseFromWorker } from './messages.ts';
import { type FromWorker, PROTOCOL, type ToWorker, type Work, type WorkerFailure } from './protocol.ts';

const LINE_LIMIT_BYTES = 16 << 20;

export interface WorkerOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  /** Added to the CLI's own environment; what is undefined is taken out of it. */
  readonly env?: { readonly [name: string]: string | undefined };
  /** How long the worker may take to say hello: it imports torch first. */
  readonly startTimeoutMs?: number;
  /** How long a cancelled request may take to save its state. */
  readonly graceMs?: number;
  /** Gives the start up, as long as there was no hello. */
  readonly signal?: AbortSignal;
  /** Between SIGTERM and SIGKILL, and between the end of stdin and SIGKILL. */
  readonly killAfterMs?: number;
}

export interface RequestOptions {
  readonly signal: AbortSignal;
  onProgress(progress: StageProgress): void;
}

export type Hello = Extract<FromWorker, { readonly type: 'hello' }>;

export interface WorkerResult {
  /** Files that the worker has written, by output name. */
  readonly outputs: { readonly [name: string]: string };
}

interface Pending {
  readonly resolve: (result: WorkerResult) => void;
  readonly reject: (failure: StageFailure) => void;
  readonly onProgress: (progress: StageProgress) => void;
  isCancelled: boolean;
}

export class WorkerClient {
  /** What the worker said about itself: versions, device, threads. */
  readonly hello: Hello;
  readonly #process: WorkerProcess;

  /** Starts the process and waits for its hello. */
  static async start(options: WorkerOptions): Promise<WorkerClient> {
    const process = new WorkerProcess(options);
    return new WorkerClient(process, await process.hello());
  }

  private constructor(process: WorkerProcess, hello: Hello) {
    this.#process = process;
    this.hello = hello;
  }

  /** Whether requests can be made: false once the process has ended or lost its wits. */
  get isAlive(): boolean {
    return this.#process.isAlive;
  }

  /** Has the worker do something. Rejects with a `StageFailure`, of kind `cancelled` when the signal was aborted. */
  request(work: Work, options: RequestOptions): Promise<WorkerResult> {
    return this.#process.request(work, options);
  }

  /** Lets the process go. What it is still doing is given up. */
  close(): Promise<void> {
    return this.#process.close();
  }
}

class WorkerProcess {
  readonly #options: WorkerOptions;
  readonly #child: ReturnType<typeof spawn>;
  readonly #log = new LogTail();
  readonly #pending = new Map<number, Pending>();
  readonly #ended: Promise<void>;
  readonly #hello = Promise.withResolvers<Hello>();
  #lastId = 0;
  #greeted = false;
  /** Set once, when no more requests can be answered. */
  #failure: Failure | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#child = spawn(options);
    this.#listen();
    this.#ended = this.#waitForEnd();
  }

  get isAlive(): boolean {
    return this.#failure === undefined;
  }

  async hello(): Promise<Hello> {
    const { startTimeoutMs: limitMs = 180_000, signal } = this.#options;
    const stop = () => this.#giveUp(cancelled().failure);
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
    const timer = setTimeout(() => {
      this.#break('worker-died', `The worker did not say hello within ${Math.round(limitMs / 1000)} seconds.`);
    }, limitMs);
    try {
      return await this.#hello.promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    }
  }

  request(work: Work, { signal, onProgress }: RequestOptions): Promise<WorkerResult> {
    if (this.#failure !== undefined) return Promise.reject(new StageFailure(this.#failure));
    if (signal.aborted) return Promise.reject(cancelled());
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<WorkerResult>();
    const pending: Pending = { resolve, reject, onProgress, isCancelled: false };
    this.#pending.set(id, pending);
    const settled = promise.then(
      () => true as const,
      () => true as const,
    );
    const cancel = () => {
      pending.isCancelled = true;
      void this.#cancel(id, settled);
    };
    signal.addEventListener('abort', cancel, { once: true });
    this.#send({ type: 'request', id, work });
    return promise.finally(() => signal.removeEventListener('abort', cancel));
  }

  async close(): Promise<void> {
    this.#child.stdin.end();
    if (!(await this.#endsWithin(this.#killAfterMs))) this.#child.kill('SIGKILL');
    await this.#ended;
  }

  get #killAfterMs(): number {
    return this.#options.killAfterMs ?? 3_000;
  }

  #send(message: ToWorker): void {
    this.#child.stdin.write(`${JSON.stringify(message)}\n`);
  }

  #listen(): void {
    const lines = new LineSplitter({
      limitBytes: LINE_LIMIT_BYTES,
      onLine: (line) => this.#receive(line),
      onTooLong: () =>
        this.#break('worker-garbled', `The worker sent a line of more than ${LINE_LIMIT_BYTES >> 20} MiB.`),
    });
    this.#child.stdout.on('data', (chunk: Buffer) => lines.push(chunk));
    this.#child.stderr.on('data', (chunk: Buffer) => this.#log.push(chunk));
    // A write to a worker that has just ended: its end is reported where the process is waited for.
    for (const stream of [this.#child.stdin, this.#child.stdout, this.#child.stderr]) stream.on('error', () => {});
  }

  #receive(line: string): void {
    if (this.#failure !== undefined || line.trim() === '') return;
    try {
      this.#handle(parseFromWorker(line));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#break('worker-garbled', error.message);
    }
  }

  #handle(message: FromWorker): void {
    if (message.type === 'hello') {
      this.#greet(message);
      return;
    }
    if (!this.#greeted) throw new ProtocolError(`The worker sent a "${message.type}" before its hello.`);
    if (message.id < 1 || message.id > this.#lastId) {
      throw new ProtocolError(`The worker answered request ${message.id}, which was never made.`);
    }
    const pending = this.#pending.get(message.id);
    // It was answered, or given up, before.
    if (pending === undefined) return;
    if (message.type === 'result') {
      this.#pending.delete(message.id);
      pending.resolve({ outputs: message.outputs });
    } else if (message.type === 'failure') {
      this.#pending.delete(message.id);
      pending.reject(this.#stageFailure(message.failure));
    } else {
      pending.onProgress(toProgress(message));
    }
  }

  #greet(hello: Hello): void {
    if (this.#greeted) throw new ProtocolError('The worker said hello twice.');
    this.#greeted = true;
    if (hello.protocol === PROTOCOL) {
      this.#hello.resolve(hello);
      return;
    }
    this.#break(
      'worker-garbled',
      `The worker speaks protocol ${hello.protocol}, and this lorac speaks ${PROTOCOL}.`,
      'Parts of two versions are mixed: install lorac again.',
    );
  }

  async #cancel(id: number, settled: Promise<true>): Promise<void> {
    this.#send({ type: 'cancel', id });
    if (await Promise.race([settled, delay(this.#options.graceMs ?? 20_000)])) return;
    this.#child.kill('SIGTERM');
    if (!(await this.#endsWithin(this.#killAfterMs))) this.#child.kill('SIGKILL');
  }

  #stageFailure(failure: WorkerFailure): StageFailure {
    const { kind, message, problems } = failure;
    // Only what is unexpected needs the log; the others say what there is to say.
    const logTail = kind === 'internal' ? this.#log.lines : [];
    return new StageFailure({ kind, message, problems, logTail, hint: failure.hint ?? undefined });
  }

  async #waitForEnd(): Promise<void> {
    const result = await this.#child;
    this.#log.end();
    const how = result.signal
      ? `was ended by ${result.signal}`
      : result.exitCode === undefined
        ? `could not be started: ${result.originalMessage ?? result.shortMessage}`
        : `ended by itself with exit code ${result.exitCode}`;
    const hint =
      result.signal === 'SIGKILL'
        ? 'The system may have run out of memory. What was finished is kept; building again goes on from there.'
        : 'The last lines of its log may say why. What was finished is kept; building again goes on from there.';
    this.#break('worker-died', `The worker process ${how}.`, hint);
  }

  #break(kind: string, message: string, hint?: string): void {
    this.#giveUp({ kind, message, hint, problems: [], logTail: this.#log.lines });
  }

  /** Fails what is pending and what may still come, for one reason, and makes sure that the process goes away. */
  #giveUp(failure: Failure): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    this.#child.kill('SIGKILL');
    this.#hello.reject(new StageFailure(failure));
    for (const { reject, isCancelled } of this.#pending.values()) {
      reject(isCancelled ? cancelled() : new StageFailure(failure));
    }
    this.#pending.clear();
  }

  async #endsWithin(limitMs: number): Promise<boolean> {
    const ended = this.#ended.then(() => true as const);
    return (await Promise.race([ended, delay(limitMs)])) ?? false;
  }
}

function spawn({ command, args, cwd, env }: WorkerOptions) {
  return execa(command, args, {
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
    encoding: 'buffer',
    buffer: false,
    reject: false,
    cleanup: false,
    killDescendants: true,
    forceKillAfterDelay: false,
  });
}

function cancelled(): StageFailure {
  return new StageFailure({ kind: 'cancelled', message: 'Stopped on request.' });
}

function delay(ms: number): Promise<undefined> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms, undefined).unref();
  });
}

type Said = Exclude<FromWorker, { readonly type: 'hello' | 'result' | 'failure' }>;

function toProgress(message: Said): StageProgress {
  switch (message.type) {
    case 'progress': {
      const { done, total, unit, note } = message;
      return { type: 'progress', done, total, unit, ...(note === undefined ? {} : { note }) };
    }
    case 'step':
      return {
        type: 'step',
        step: message.step,
        total: message.total,
        loss: message.loss ?? Number.NaN,
        learningRates: Object.fromEntries(
          Object.entries(message.learning_rates).map(([group, rate]) => [group, rate ?? Number.NaN]),
        ),
        gradNorm: message.grad_norm ?? Number.NaN,
        elapsedMs: message.seconds * 1000,
      };
    case 'artifact':
      return { type: 'artifact', name: message.name, path: message.path };
    case 'log':
      return { type: 'log', level: message.level, message: message.message };
    default:
      return unreachable(message);
  }
}
