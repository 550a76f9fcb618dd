// Nothing is lost: kills, Ctrl-C, and what the next build makes of them.

import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { descendants, killTree, Project, program, stepsIn, withEvents } from './project.ts';

let project: Project;
let expected: Buffer;

beforeAll(async () => {
  project = await Project.open();
  // So many steps that some are left after three stops, on a fast machine too.
  const longer = program
    .replace('steps = 6', 'steps = 24')
    .replace('save_every = 2', 'save_every = 8')
    .replace('every = 3', 'every = 8');
  await writeFile(project.path('hero.lora'), longer);
  const { exitCode, events } = await project.build();
  expect([exitCode, stepsIn(events).at(-1)]).toEqual([0, 24]);
  expected = await project.bytes('hero.safetensors');
}, 180_000);
afterAll(async () => await project[Symbol.asyncDispose]());

test('kill -9 of everything, Ctrl-C and the death of the worker cost one training, in another folder, no byte', async () => {
  const twin = await project.copyInputs('stopped');
  await killed(twin);
  const interrupted = await stopped(twin, 130, (build) => process.kill(build.pid ?? 0, 'SIGINT'));
  expect(interrupted.finished.ok).toBe(false);
  expect(interrupted.steps[0]).toBeGreaterThan(1);

  const died = await stopped(twin, 1, (build) => {
    for (const pid of descendants(build.pid ?? 0)) process.kill(pid, 'SIGKILL');
  });
  expect(died.finished.failed).toEqual(['raw']);
  expect(died.events.find((event) => event.type === 'node-failed').failure.kind).toBe('worker-died');
  // Ctrl-C saves the state.
  expect(died.steps[0]).toBeGreaterThan(interrupted.steps.at(-1) ?? 24);

  const { exitCode, events } = await twin.build();
  expect(exitCode).toBe(0);
  expect(stepsIn(events)[0]).toBeGreaterThan(died.steps[0] ?? 24);
  expect(await twin.bytes('hero.safetensors')).toEqual(expected);
}, 240_000);

/** At a random moment, as a power cut does it. */
async function killed(twin: Project): Promise<void> {
  const random = Math.random();
  console.log(`moment of the kill: ${random}`);
  const build = twin.startBuild();
  await untilSteps(build, 3 + Math.floor(random * 3));
  // Not always at the same place within a step.
  await new Promise((resolve) => setTimeout(resolve, random * 200));
  expect(descendants(build.pid ?? 0).length).toBeGreaterThan(0);
  killTree(build.pid ?? 0);
  await build;
}

/** A build that is stopped after a few steps, and what it had told by then. */
async function stopped(twin: Project, exitCode: number, stop: (build: ReturnType<Project['startBuild']>) => void) {
  const build = twin.startBuild();
  await untilSteps(build, 3);
  stop(build);
  const ended = await build;
  expect(ended.exitCode).toBe(exitCode);
  const outcome = withEvents({ exitCode, stdout: String(ended.stdout), stderr: String(ended.stderr), elapsedMs: 0 });
  return { ...outcome, steps: stepsIn(outcome.events) };
}

/** Waits until the build has told of so many optimizer steps. */
async function untilSteps(build: ReturnType<Project['startBuild']>, count: number): Promise<void> {
  let text = '';
  await new Promise<void>((resolve, reject) => {
    build.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      if (text.split('"type":"step","step":').length > count) resolve();
    });
    build.stdout?.on('end', () => reject(new Error(`The build ended before step ${count}:\n${text.slice(-3000)}`)));
  });
}
