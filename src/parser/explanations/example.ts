// An example as a program: with the blocks that it leaves out, the files that it imports, and what its comment sets.

import { type Compiled, compile } from '../check.ts';
import { type Explanation, given } from './explanation.ts';

/** `path` is where the example is said to be. */
export function compileExample(path: string, example: string, { files = {} }: Explanation): Compiled {
  const source = { path, text: `${example}\n${given(example)}` };
  return compile(source, {
    params: paramsOf(example),
    environment: (name) => variablesOf(example).get(name),
    files: {
      load(written) {
        if (written === 'hero.lora') return { status: 'found', id: written, source };
        const text = files[written];
        if (text === undefined) return { status: 'problem', message: `There is no file ${written}.` };
        return { status: 'found', id: written, source: { path: written, text } };
      },
      identify: (file) => (file === source ? 'hero.lora' : file.path),
    },
  });
}

/** What is set on the command line, where a comment of the example says so. */
function paramsOf(example: string): ReadonlyMap<string, string> {
  return new Map([...example.matchAll(/-p (\w+)=(\S+)/g)].map(([, name = '', value = '']) => [name, value]));
}

const variablesOf = (example: string): ReadonlyMap<string, string> =>
  new Map([...example.matchAll(/# (\w+)=(\S+) lorac/g)].map(([, name = '', value = '']) => [name, value]));
