// Programs of several files.

import type { Explanations } from './explanation.ts';

const models = 'checkpoint pony { path = "pony.safetensors" }';
const more = Array.from({ length: 101 }, (_, index) => `f${index}.lora`);

export const imports: Explanations = {
  'import-as': {
    means: `An import can be given a name, which then stands before the names of that file; the word between is "as".`,
    wrong: `import "models.lora" with models\nlora mine { path = "mine.safetensors"  base = models.pony }`,
    right: `import "models.lora" as models\nlora mine { path = "mine.safetensors"  base = models.pony }`,
    files: { 'models.lora': models },
  },
  'import-circle': {
    means: `Files import each other in a circle, so none of them can be read first. What several files need belongs into one
that imports none of them.`,
    wrong: `import "models.lora" as models\nlet size = 1024x1024\nlora mine { path = "mine.safetensors"  base = models.pony }`,
    right: `import "pony.lora" as models\nlora mine { path = "mine.safetensors"  base = models.pony }`,
    files: {
      'models.lora': `import "more.lora" as more\n${models}`,
      'more.lora': 'import "models.lora" as models',
      'pony.lora': models,
    },
  },
  'import-clash': {
    means: `An import without a name of its own brings all names of its file, and one of them is taken.`,
    wrong: `import "models.lora"\ncheckpoint pony { path = "other.safetensors" }`,
    right: `import "models.lora" as models\ncheckpoint pony { path = "other.safetensors" }`,
    files: { 'models.lora': models },
  },
  'import-failed': {
    means: `The file of an import is not there, or cannot be read. Its path starts at the folder of the file that imports it.`,
    wrong: `import "modles.lora" as models\nlora mine { path = "mine.safetensors" }`,
    right: `import "models.lora" as models\nlora mine { path = "mine.safetensors" }`,
    files: { 'models.lora': models },
  },
  'imported-expression': {
    means: `Imports are read before any name has a value, so their paths are written out.`,
    wrong: `let file = "models"\nimport "\${file}.lora" as models\nlora mine { path = "mine.safetensors" }`,
    right: `import "models.lora" as models\nlora mine { path = "mine.safetensors" }`,
    files: { 'models.lora': models },
  },
  'imported-twice': {
    means: `A file is imported twice. Once is enough.`,
    wrong: `import "models.lora" as models\nimport "models.lora" as again\nlora mine { path = "mine.safetensors" }`,
    right: `import "models.lora" as models\nlora mine { path = "mine.safetensors" }`,
    files: { 'models.lora': models },
  },
  'imports-itself': {
    means: `A file imports itself. Its own names are known without that.`,
    wrong: `import "hero.lora"\nlora mine { path = "mine.safetensors" }`,
    right: `lora mine { path = "mine.safetensors" }`,
  },
  'too-many-files': {
    means: `A program can import a hundred files, of a million characters together. More is most likely a mistake.`,
    wrong: more.map((file, index) => `import "${file}" as f${index}`).join('  '),
    right: `import "f1.lora" as f1\nlora mine { path = "mine.safetensors" }`,
    files: Object.fromEntries(more.map((file, index) => [file, `lora l${index} { path = "l.safetensors" }`])),
  },
};
