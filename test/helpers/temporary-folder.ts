// A folder for one test, gone when the test is over.

import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { AbsolutePath } from '../../src/runtime/graph/graph.ts';
import { absolutePath } from '../../src/runtime/graph/paths.ts';

export interface TemporaryFolder extends Disposable {
  readonly path: AbsolutePath;
  /** Where a file of the folder is. */
  at(name: string): AbsolutePath;
  /** Writes files, making folders as needed. */
  write(files: { readonly [name: string]: string | Uint8Array }): void;
}

/** In memory where there is such a place: flushing to a disk is what most of these tests would wait for. */
const usual = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

export function temporaryFolder(parent: string = usual): TemporaryFolder {
  const path = absolutePath(realpathSync(mkdtempSync(join(parent, 'lorac-test-'))));
  const at = (name: string) => absolutePath(join(path, name));
  return {
    path,
    at,
    write(files) {
      for (const [name, content] of Object.entries(files)) {
        mkdirSync(dirname(at(name)), { recursive: true });
        writeFileSync(at(name), content);
      }
    },
    [Symbol.dispose]() {
      rmSync(path, { recursive: true, force: true });
    },
  };
}
