// Bundles the extension with the project's own packages, and puts the project's TextMate grammar and licence beside it.

import { copyFileSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const root = dirname(dirname(here));

mkdirSync(join(here, 'dist'), { recursive: true });
copyFileSync(join(root, 'grammar', 'lora.tmLanguage.json'), join(here, 'dist', 'lora.tmLanguage.json'));
copyFileSync(join(root, 'LICENSE'), join(here, 'LICENSE'));
await build({
  absWorkingDir: here,
  entryPoints: ['src/extension.ts'],
  outfile: 'dist/extension.js',
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node20',
  // The editor hands it in.
  external: ['vscode'],
  minifySyntax: true,
  keepNames: true,
  logLevel: 'warning',
});
