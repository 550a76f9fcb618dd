// npm test: the TypeScript suite, then the Python suite. `--quick` leaves out what trains, builds or kills, and runs both
// at once; other arguments narrow the TypeScript suite, as vitest understands them.

import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { root, testTools, workerPython } from './python.ts';
import { inBackground, main, onScreen, runSteps } from './steps.ts';

/** What trains, renders, starts processes or holds whole networks against other programs. */
const slowPython = [
  ...['train*', 'kinds', 'resume_in_a_step', 'validation', 'parity', 'loss', 'learning', 'process', 'optimizers'],
  ...['no_waiting', 'noise_settings', 'sampling', 'adapters', '*_agree*', 'contact_sheet', 'montage', 'worker'],
  ...['decompose', 'saveus', 'toy*', 'masked_training', 'step_memory', 'moving_average', 'warm_start', 'weight_norms'],
  ...['folder_checkpoint', 'adamw8bit', 'saving', 'text_cache', 'compiling', 'fp8', 'swapping', 'launch', 'on_a_gpu'],
].map((name) => `--ignore-glob=tests/test_${name}.py`);

await main(async () => {
  const args = process.argv.slice(3);
  const quick = args.includes('--quick');
  const narrowing = args.filter((arg) => arg !== '--quick');
  const python = await workerPython();
  // The tensors of the tests are so small that a second thread only costs time.
  const options = { cwd: join(root, 'python'), env: { OMP_NUM_THREADS: '1', ...(await testTools(python)) } };
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const projects = quick ? ['--project', 'quick'] : [];
  // Alone, the Python suite takes a process for each core; beside the TypeScript suite one has to do.
  const processes = Math.min(availableParallelism(), 4);
  const narrowed = quick ? slowPython : ['--numprocesses', String(processes), '--dist', 'worksteal'];
  const pytest = [python, '-m', 'pytest', ...narrowed];
  const pythonSuite = quick ? inBackground(pytest, options) : () => onScreen(pytest, options);
  await runSteps([
    { name: 'TypeScript', run: () => onScreen([process.execPath, vitest, 'run', ...projects, ...narrowing]) },
    { name: 'Python', run: pythonSuite },
  ]);
});
