import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { compileFile } from '../../src/cli/compile-file.ts';
import { graphOf } from '../../src/cli/graph.ts';
import { missingFiles } from '../../src/cli/missing-files.ts';
import { placesOfUser } from '../../src/cli/places.ts';

let folder: string;
const before = process.cwd();

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'lorac-imports-')));
  process.chdir(folder);
});

afterEach(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

const check = (text: string) => {
  writeFileSync('main.lora', text);
  return compileFile({ file: 'main.lora', param: [] });
};

test('paths of an imported file start at its folder, wherever the program is', () => {
  mkdirSync('sets [old]/more', { recursive: true });
  writeFileSync(
    'sets [old]/b.lora',
    `checkpoint pony { path = "../pony.safetensors" }
     dataset hero { images = "images/*.png" }
     train t { sample = { prompts = "more/p.txt" } }`,
  );
  const { program, diagnostics } = check(
    'import "sets [old]/b.lora" as b  train raw extends b.t { base = b.pony  data = b.hero }',
  );
  expect(diagnostics).toEqual([]);
  if (program === undefined) throw new Error('no program');
  const nodes = new Map<string, { files: unknown; settings: unknown }>(
    graphOf(program).nodes.map((node) => [node.id, node]),
  );
  expect(nodes.get('b.pony')?.files).toEqual({ checkpoint: join(folder, 'pony.safetensors') });
  expect(nodes.get('raw:samples')?.files).toMatchObject({ prompts: join(folder, 'sets [old]/more/p.txt') });
  expect(nodes.get('b.hero:manifest')?.settings).toMatchObject({
    images: [{ from: join(folder, 'sets [old]'), pattern: 'images/*.png' }],
  });
  const missing = missingFiles(program, placesOfUser());
  expect(missing.map(({ message }) => message.replaceAll(folder, '.')).sort()).toEqual([
    'There is no file "./pony.safetensors".',
    'There is no file "./sets [old]/more/p.txt".',
    'There is no folder "./sets [old]/images".',
  ]);
});

test('a file is the same file through a link', () => {
  writeFileSync('b.lora', 'let x = 1');
  symlinkSync('b.lora', 'link.lora');
  symlinkSync('main.lora', 'self.lora');
  const { diagnostics } = check('import "b.lora"  import "link.lora" as l  import "self.lora"');
  expect(diagnostics.map(({ code }) => code)).toEqual(['imported-twice', 'imports-itself']);
});

test('what is no program is told with its path', () => {
  mkdirSync('folder');
  writeFileSync('picture.lora', new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0xff, 0xfe]));
  writeFileSync('large.lora', '');
  truncateSync('large.lora', 5 * 1024 * 1024);
  symlinkSync('round.lora', 'round.lora');
  execFileSync('mkfifo', ['pipe.lora']);
  const paths = [
    'folder',
    'picture.lora',
    'large.lora',
    'round.lora',
    'pipe.lora',
    '/dev/zero',
    'main.lora/x',
    'n/o.lora',
  ];
  const { diagnostics } = check([...paths, 'x'.repeat(5000)].map((path) => `import "${path}"`).join('\n'));
  expect(diagnostics.map(({ code }) => code)).toEqual(Array(9).fill('import-failed'));
  expect(diagnostics.map(({ message }) => message)).toEqual([
    'folder is a folder.',
    'picture.lora is not text: it has bytes that are not UTF-8.',
    'large.lora is too large for a program.',
    'round.lora leads through links that lead to each other.',
    'pipe.lora is no file.',
    '/dev/zero is no file.',
    'There is no file main.lora/x.',
    'There is no file n/o.lora.',
    'This path is longer than any that a file can have.',
  ]);
});

test('a slip in the path of an import names the programs that are there', () => {
  writeFileSync('style.lora', '');
  const { diagnostics } = check('import "styel.lora"');
  expect(diagnostics[0]).toMatchObject({
    message: 'There is no file styel.lora.',
    hint: 'In that folder there is main.lora, style.lora.',
  });
});
