// npm test: the TypeScript suite and the Python suite. `--quick` leaves out what trains, builds or kills; other arguments
// narrow the TypeScript suite, as vitest understands them.

import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { root, testTools, workerPython } from './python.ts';
import { inBackground, main, onScreen, runSteps, type Step } from './steps.ts';

/** What trains, renders, starts processes or holds whole networks against other programs. */
const slowPython = [
  ...['train*', 'kinds', 'resume_in_a_step', 'validation', 'parity', 'loss', 'learning', 'process', 'optimizers'],
  ...['no_waiting', 'noise_settings', 'sampling', 'adapters', '*_agree*', 'contact_sheet', 'montage', 'worker'],
  ...['decompose', 'saveus', 'toy*', 'masked_training', 'step_memory', 'moving_average', 'warm_start', 'weight_norms'],
  ...['folder_checkpoint', 'adamw8bit', 'saving', 'text_cache', 'compiling', 'fp8', 'swapping', 'launch', 'loading'],
  ...['on_a_gpu', 'encode_latents', 'long_captions'],
].map((name) => `--ignore-glob=tests/test_${name}.py`);

await main(async () => {
  const args = process.argv.slice(3);
  const quick = args.includes('--quick');
  const narrowing = args.filter((arg) => arg !== '--quick');
  const python = await workerPython();
  // The tensors of the tests are so small that a second thread only costs time.
  const threads = { OMP_NUM_THREADS: '1', LORAC_THREADS: '1' };
  const options = { cwd: join(root, 'python'), env: { ...(await testTools(python)), ...threads } };
  const pytest = (...args: string[]) => [python, '-m', 'pytest', ...args];
  const processes = Math.min(availableParallelism(), 4);
  const wholePytest = pytest('--numprocesses', String(processes), '--dist', 'worksteal');
  const vitest = (...projects: string[]) => [
    ...[process.execPath, join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run'],
    ...projects.flatMap((name) => ['--project', name]),
    ...narrowing,
  ];

  await runSteps(quick ? quickly() : narrowing.length > 0 ? narrowed() : whole());

  /** Both at once, the Python suite in one process. */
  function* quickly(): Generator<Step> {
    const pythonSuite = inBackground(pytest(...slowPython), options);
    yield { name: 'TypeScript', run: () => onScreen(vitest('quick')) };
    yield { name: 'Python', run: pythonSuite };
  }

  function* narrowed(): Generator<Step> {
    yield { name: 'TypeScript', run: () => onScreen(vitest()) };
    yield { name: 'Python', run: () => onScreen(wholePytest, options) };
  }

  /** What builds and trains mostly keeps one core busy, so the Python suite runs beside it. */
  function* whole(): Generator<Step> {
    yield { name: 'TypeScript', run: () => onScreen(vitest('quick', 'thorough')) };
    const pythonSuite = inBackground(wholePytest, options);
    yield { name: 'TypeScript, end to end', run: () => onScreen(vitest('e2e')) };
    yield { name: 'Python', run: pythonSuite };
  }
});
