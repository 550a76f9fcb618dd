// npm test: the TypeScript suite, then the Python suite. `--quick` leaves out what builds real projects or is marked slow;
// other arguments narrow the TypeScript suite, as vitest understands them.

import { join } from 'node:path';
import { root, testTools, workerPython } from './python.ts';
import { main, onScreen, runSteps } from './steps.ts';

await main(async () => {
  const args = process.argv.slice(3);
  const quick = args.includes('--quick');
  const narrowing = args.filter((arg) => arg !== '--quick');
  const python = await workerPython();
  const env = await testTools(python);
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const projects = quick ? ['--project', 'unit'] : [];
  await runSteps([
    { name: 'TypeScript', run: () => onScreen([process.execPath, vitest, 'run', ...projects, ...narrowing]) },
    {
      name: 'Python',
      run: () =>
        onScreen([python, '-m', 'pytest', ...(quick ? ['-m', 'not slow'] : [])], { cwd: join(root, 'python'), env }),
    },
  ]);
});
