// Runs commands that are expected to fail now and then, and tells at the end which did.

import { $, ProcessOutput } from 'zx';
import { duration } from '../src/tui/units.ts';

export interface Step {
  readonly name: string;
  readonly run: () => Promise<boolean>;
}

/**
 * One after the other, also after a failure. The exit code of the process becomes 1 when any of them failed. Each step is
 * asked for when the one before it has ended: what a generator begins in between runs beside those that follow.
 */
export async function runSteps(steps: Iterable<Step>): Promise<void> {
  const lines: string[] = [];
  for (const { name, run } of steps) {
    process.stdout.write(`\n── ${name}\n`);
    const started = performance.now();
    const passed = await run();
    if (!passed) process.exitCode = 1;
    lines.push(`${passed ? 'passed' : 'FAILED'}  ${name} (${duration(performance.now() - started)})`);
  }
  process.stdout.write(`\n${lines.join('\n')}\n`);
}

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** A command that begins now; the step waits for its end and then prints all that it said. */
export function inBackground(command: readonly string[], options: CommandOptions): Step['run'] {
  const running = $({ ...options, nothrow: true, quiet: true, stdio: ['ignore', 'pipe', 'pipe'] })`${command}`.then(
    (output) => output,
  );
  return async () => {
    const { exitCode, stdall } = await running;
    process.stdout.write(stdall);
    return exitCode === 0;
  };
}

/** A command on this terminal. */
export async function onScreen(command: readonly string[], options: CommandOptions = {}): Promise<boolean> {
  const { exitCode } = await $({ ...options, stdio: 'inherit', nothrow: true })`${command}`;
  return exitCode === 0;
}

/** Runs a script's body. What a command of it had to say is on the screen already, so only its failure is reported. */
export async function main(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof ProcessOutput)) throw error;
    const told = error.stderr.trim();
    if (told !== '') process.stderr.write(`${told}\n`);
    process.exitCode = error.exitCode ?? 1;
  }
}
