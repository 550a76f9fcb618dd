// Nothing is lost: kills, Ctrl-C, and what the next build makes of them.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { descendants, killTree, Project, withEvents } from './project.ts';

describe('a training that is stopped', () => {
  let project: Project;
  let expected: Buffer;

  beforeAll(async () => {
    project = await Project.open();
    const { exitCode } = await project.build();
    expect(exitCode).toBe(0);
    expected = await project.bytes('hero.safetensors');
  }, 180_000);
  afterAll(async () => await project[Symbol.asyncDispose]());

  test('kill -9 of everything, twice, costs no byte of the result', async () => {
    const twin = await project.copyInputs('killed');
    const random = Math.random();
    console.log(`moments of the kills: ${random}`);
    for (const [round, step] of [1 + Math.floor(random * 2), 3 + Math.floor(random * 3)].entries()) {
      const build = twin.startBuild();
      await untilStep(build, step);
      // Not always at the same place within a step.
      await new Promise((resolve) => setTimeout(resolve, random * 200 * (round + 1)));
      const processes = descendants(build.pid ?? 0);
      expect(processes.length).toBeGreaterThan(0);
      killTree(build.pid ?? 0);
      await build;
    }
    const { exitCode, events } = await twin.build();
    expect(exitCode).toBe(0);
    const steps = events.filter((event) => event.type === 'node-progress' && event.progress.type === 'step');
    expect(steps.length).toBeLessThan(6);
    expect(await twin.bytes('hero.safetensors')).toEqual(expected);
  }, 240_000);

  test('Ctrl-C saves the state, exits with 130, and the next build goes on from there', async () => {
    const twin = await project.copyInputs('interrupted');
    const build = twin.startBuild();
    await untilStep(build, 2);
    process.kill(build.pid ?? 0, 'SIGINT');
    const stopped = await build;
    expect(stopped.exitCode).toBe(130);
    const finished = withEvents({
      exitCode: 130,
      stdout: String(stopped.stdout),
      stderr: String(stopped.stderr),
      elapsedMs: 0,
    }).finished;
    expect(finished.ok).toBe(false);
    const { exitCode, events } = await twin.build();
    expect(exitCode).toBe(0);
    const steps = events
      .filter((event) => event.type === 'node-progress' && event.progress.type === 'step')
      .map((event) => event.progress.step);
    expect(Math.min(...steps)).toBeGreaterThan(2);
    expect(await twin.bytes('hero.safetensors')).toEqual(expected);
  }, 240_000);

  test('a worker that is killed is named, with what to do, and the next build goes on', async () => {
    const twin = await project.copyInputs('worker-killed');
    const build = twin.startBuild();
    await untilStep(build, 2);
    for (const pid of descendants(build.pid ?? 0)) process.kill(pid, 'SIGKILL');
    const stopped = await build;
    expect(stopped.exitCode).toBe(1);
    const { events, finished } = withEvents({
      exitCode: 1,
      stdout: String(stopped.stdout),
      stderr: String(stopped.stderr),
      elapsedMs: 0,
    });
    expect(finished.failed).toEqual(['raw']);
    expect(events.find((event) => event.type === 'node-failed').failure.kind).toBe('worker-died');
    const { exitCode } = await twin.build();
    expect(exitCode).toBe(0);
    expect(await twin.bytes('hero.safetensors')).toEqual(expected);
  }, 240_000);
});

/** Waits until the build has told that optimizer step `step` is done. */
async function untilStep(build: ReturnType<Project['startBuild']>, step: number): Promise<void> {
  let text = '';
  await new Promise<void>((resolve, reject) => {
    build.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      if (text.includes(`"type":"step","step":${step},`)) resolve();
    });
    build.stdout?.on('end', () => reject(new Error(`The build ended before step ${step}:\n${text.slice(-3000)}`)));
  });
}
