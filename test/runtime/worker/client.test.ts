import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { StageFailure, type StageProgress } from '../../../src/runtime/events.ts';
import { WorkerClient, type WorkerOptions } from '../../../src/runtime/worker/client.ts';
import type { EncodeLatents, Work } from '../../../src/runtime/worker/protocol.ts';
import { type FakeWorkerKnobs, fakeWorkerOptions, startFakeWorker } from '../../helpers/fake-worker.ts';

const clients: WorkerClient[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
});

async function start(knobs: FakeWorkerKnobs = {}, options: Partial<WorkerOptions> = {}): Promise<WorkerClient> {
  const client = await startFakeWorker(knobs, options);
  clients.push(client);
  return client;
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'lorac-worker-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Images to encode, so many that a slow worker is busy for long. */
async function someWork(count = 1): Promise<EncodeLatents> {
  const path = await folder();
  const image = join(path, 'image');
  await writeFile(image, 'pixels');
  const items = Array.from({ length: count }, (_, index) => ({
    name: `item-${index}`,
    image,
    resized: [16, 16] as const,
    crop: [0, 0] as const,
    bucket: [16, 16] as const,
    flip: false,
    output: join(path, `${index}.safetensors`),
  }));
  return {
    op: 'encode_latents',
    checkpoint: 'base',
    vae_precision: 'fp32',
    exif: 'apply',
    transparency: [255, 255, 255],
    resize_filter: 'lanczos',
    items,
  };
}

interface Asking {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: StageProgress) => void;
}

function ask(client: WorkerClient, work: Work, { signal, onProgress }: Asking = {}) {
  return client.request(work, {
    signal: signal ?? new AbortController().signal,
    onProgress: onProgress ?? (() => {}),
  });
}

async function failureOf(promise: Promise<unknown>) {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof StageFailure)) throw new Error(`Expected a StageFailure, and got ${String(error)}`);
  return error.failure;
}

test('the worker says who it is before anything else', async () => {
  const client = await start();
  expect(client.hello).toMatchObject({ torch: '2.13.0+fake', device: 'cpu', deviceName: 'Fake processor', threads: 1 });
  expect(client.isAlive).toBe(true);
});

test('a request ends with its result, after everything that was said about it', async () => {
  const client = await start();
  const work = await someWork(2);
  const said: StageProgress[] = [];
  await ask(client, work, { onProgress: (progress) => said.push(progress) });
  expect(said.filter(({ type }) => type === 'artifact')).toEqual(
    work.items.map(({ name, output }) => ({ type: 'artifact', name, path: output })),
  );
  expect(said.at(-1)).toEqual({ type: 'progress', done: 2, total: 2, unit: 'images' });
});

test('requests that are made at once are answered each with its own result', async () => {
  const client = await start();
  const works = await Promise.all([someWork(1), someWork(2), someWork(3)]);
  const counts = await Promise.all(
    works.map(async (work) => {
      let artifacts = 0;
      await ask(client, work, { onProgress: ({ type }) => void (type === 'artifact' && artifacts++) });
      return artifacts;
    }),
  );
  expect(counts).toEqual([1, 2, 3]);
});

test('a failure keeps its kind, and the worker goes on', async () => {
  const client = await start({ FAIL: 'decompose:out-of-memory' });
  const failure = await failureOf(
    ask(client, { op: 'decompose', lora: 'a', extract: null, checkpoints: null, factors: 'b', modules: 'c' }),
  );
  expect(failure).toMatchObject({ kind: 'out-of-memory', logTail: [] });
  await ask(client, await someWork());
});

test('a cancelled request fails as cancelled, and the worker is usable again', async () => {
  const client = await start({ DELAY_MS: '20' });
  const stop = new AbortController();
  const promise = ask(client, await someWork(1000), { signal: stop.signal, onProgress: () => stop.abort() });
  expect(await failureOf(promise)).toMatchObject({ kind: 'cancelled' });
  await ask(client, await someWork());
});

test('a request whose signal was aborted before is not even sent', async () => {
  const journal = join(await folder(), 'journal');
  const client = await start({ JOURNAL: journal });
  expect(await failureOf(ask(client, await someWork(), { signal: AbortSignal.abort() }))).toMatchObject({
    kind: 'cancelled',
  });
  await ask(client, await someWork());
  expect((await readFile(journal, 'utf8')).trim().split('\n')).toHaveLength(1);
});

test('a worker that does not hear a cancel is ended, and the request counts as cancelled', async () => {
  const client = await start({ DELAY_MS: '20', DEAF: '1' }, { graceMs: 100, killAfterMs: 100 });
  const stop = new AbortController();
  const promise = ask(client, await someWork(1000), { signal: stop.signal, onProgress: () => stop.abort() });
  expect(await failureOf(promise)).toMatchObject({ kind: 'cancelled' });
  expect(client.isAlive).toBe(false);
});

test('a start is given up at once when the run is stopped', async () => {
  const stop = new AbortController();
  const starting = start({ MUTE: '1' }, { signal: stop.signal });
  setTimeout(() => stop.abort(), 50);
  expect(await failureOf(starting)).toMatchObject({ kind: 'cancelled' });
  expect(await failureOf(start({ MUTE: '1' }, { signal: AbortSignal.abort() }))).toMatchObject({ kind: 'cancelled' });
  // Once it has begun, it is asked to stop instead.
  const late = new AbortController();
  const client = await start({}, { signal: late.signal });
  late.abort();
  expect(client.isAlive).toBe(true);
});

test('when the worker dies, every pending request fails with the same reason and the end of the log', async () => {
  const client = await start({ STDERR: 'about to \u001b[31mfall over', DIE_AT_STEP: '2' });
  const path = await folder();
  const train = {
    op: 'train',
    work: path,
    images: [],
    settings: { steps: 5 },
    save_steps: [],
    until: 5,
  } as unknown as Work;
  const failures = await Promise.all([
    failureOf(ask(client, { ...train, samples: { steps: [], prompts: [], labels: [], given: [] } } as Work)),
    failureOf(ask(client, await someWork())),
  ]);
  for (const failure of failures) {
    expect(failure).toMatchObject({
      kind: 'worker-died',
      message: 'The worker process was ended by SIGKILL.',
      logTail: ['about to fall over'],
    });
    expect(failure.hint).toContain('out of memory');
  }
  expect(await failureOf(ask(client, await someWork()))).toMatchObject({ kind: 'worker-died' });
});

test.each([
  ['what is not JSON', 'Loading pipeline: 100%', 'it is not JSON'],
  ['a list', '[1, 2]', 'an object is needed'],
  ['an unknown type', '{"type":"greeting","id":1}', 'its type is "greeting"'],
  ['a field of the wrong type', '{"type":"progress","id":1,"done":"3","total":4,"unit":"x"}', '"done" is "3"'],
  ['a missing field', '{"type":"artifact","id":1,"name":"x"}', '"path" is missing'],
  ['a bare NaN', '{"type":"progress","id":1,"done":NaN,"total":4,"unit":"x"}', 'it is not JSON'],
  ['an answer to nothing', '{"type":"result","id":77,"outputs":{}}', 'request 77, which was never made'],
  [
    'a second hello',
    '{"type":"hello","protocol":1,"python":"","torch":"","device":"cpu","deviceName":"","threads":1}',
    'hello twice',
  ],
])('%s on the pipe ends the request with a clear failure', async (_, line, reason) => {
  const client = await start({ SAY: line });
  const failure = await failureOf(ask(client, await someWork()));
  expect(failure.kind).toBe('worker-garbled');
  expect(failure.message).toContain(reason);
  expect(client.isAlive).toBe(false);
});

test('what garbage is shown cannot steer the terminal', async () => {
  const client = await start({ SAY: '\u001b]0;owned\u0007\u001b[2J hello \u202e there' });
  const failure = await failureOf(ask(client, await someWork()));
  expect(failure.message).toMatch(/: {2}hello {2}there$/);
});

test('a line without an end is not held in memory', async () => {
  const say = `process.stdout.write('x'.repeat(1 << 20), again); function again() { process.stdout.write('x'.repeat(1 << 20), again); }`;
  const hello = `console.log(JSON.stringify({type:'hello',protocol:1,python:'',torch:'',device:'cpu',deviceName:'',threads:1}));`;
  const options = { command: process.execPath, args: ['-e', hello + say] };
  const client = await WorkerClient.start(options);
  expect(await failureOf(ask(client, await someWork()))).toMatchObject({
    kind: 'worker-garbled',
    message: 'The worker sent a line of more than 16 MiB.',
  });
});

test('a worker of another protocol is turned away before any work', async () => {
  expect(await failureOf(start({ PROTOCOL: '2' }))).toMatchObject({
    kind: 'worker-garbled',
    message: 'The worker speaks protocol 2, and this lorac speaks 1.',
  });
});

test('a worker that says nothing is given up', async () => {
  expect(await failureOf(start({ MUTE: '1' }, { startTimeoutMs: 200 }))).toMatchObject({
    kind: 'worker-died',
    message: expect.stringContaining('did not say hello'),
  });
});

test('an interpreter that is not there is named', async () => {
  const failure = await failureOf(start({}, { command: '/nowhere/python' }));
  expect(failure.kind).toBe('worker-died');
  expect(failure.message).toContain('/nowhere/python');
});

test('closing ends the process also when it does not listen', async () => {
  const client = await start({ DEAF: '1' }, { killAfterMs: 100 });
  await client.close();
  expect(client.isAlive).toBe(false);
});

test('a Ctrl-C in the terminal reaches the worker only through the CLI', async () => {
  const options = fakeWorkerOptions();
  const script =
    'process.stdout.write(JSON.stringify({type:"hello",protocol:1,python:String(process.pid),torch:"",device:"cpu",deviceName:"",threads:1})+"\\n"); setInterval(() => {}, 1000)';
  const client = await start({}, { ...options, args: ['-e', script], killAfterMs: 100 });
  const { execa } = await import('execa');
  const { stdout } = await execa('ps', ['-o', 'pgid=', '-p', client.hello.python]);
  expect(stdout.trim()).toBe(client.hello.python);
});
