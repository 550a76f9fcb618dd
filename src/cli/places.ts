// Where a program's paths start.

import { homedir } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { SourceFile } from '../parser/source.ts';
import { absolutePath, type Places } from '../runtime/graph/paths.ts';

export function placesOf(source: SourceFile): Places {
  return { folder: absolutePath(dirname(resolve(source.path))), home: absolutePath(homedir()) };
}
