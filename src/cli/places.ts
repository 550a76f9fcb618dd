// Where a program's paths start.

import { homedir } from 'node:os';
import { absolutePath, type Places } from '../runtime/graph/paths.ts';

export function placesOfUser(): Places {
  return { home: absolutePath(homedir()) };
}
