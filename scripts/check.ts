// npm run check: types, lint and format of both languages. `--fix` repairs what can be repaired.

import { join } from 'node:path';
import { root, testTools, workerPython } from './python.ts';
import { main, onScreen, runSteps } from './steps.ts';

await main(async () => {
  const fix = process.argv.includes('--fix');
  const python = await workerPython();
  const options = { cwd: join(root, 'python'), env: await testTools(python) };
  // The scripts of the examples follow the same rules; only the configuration lies elsewhere.
  const sources = ['--config', 'pyproject.toml', '.', join('..', 'examples')];
  const bin = (name: string) => join(root, 'node_modules', '.bin', name);
  await runSteps([
    { name: 'types', run: () => onScreen([bin('tsc')]) },
    { name: 'lint and format', run: () => onScreen([bin('biome'), 'check', ...(fix ? ['--write'] : [])]) },
    {
      name: 'Python lint',
      run: () => onScreen([python, '-m', 'ruff', 'check', ...(fix ? ['--fix'] : []), ...sources], options),
    },
    {
      name: 'Python format',
      run: () => onScreen([python, '-m', 'ruff', 'format', ...(fix ? [] : ['--check']), ...sources], options),
    },
  ]);
});
