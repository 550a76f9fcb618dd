// What names, kinds and values mean.

import { type Explanations, trainWith } from './explanation.ts';

export const meaning: Explanations = {
  'bucket-order': {
    means: `Images are sorted into buckets whose sides lie between min and max, so min cannot be the larger one.`,
    wrong: `dataset hero { images = "images"  bucket = { min = 2048  max = 256 } }`,
    right: `dataset hero { images = "images"  bucket = { min = 256  max = 2048 } }`,
  },
  cycle: {
    means: `Blocks are made one from the other, and these wait for each other: none of them can be the first.`,
    wrong: `resize small { from = tiny }\nchop tiny { from = small  keep = [OUT01] }`,
    right: `resize small { from = style }\nchop tiny { from = small  keep = [OUT01] }`,
  },
  'duplicate-attribute': {
    means: `An attribute is written twice in the same braces, and lorac will not guess which one counts.`,
    wrong: trainWith('steps = 40  steps = 80'),
    right: trainWith('steps = 80'),
  },
  'duplicate-name': {
    means: `Blocks, lets and params are told apart by their names, so each name is given once in a program.`,
    wrong: `resize small { from = style }\nchop small { from = style  keep = [OUT01] }`,
    right: `resize small { from = style }\nchop tiny { from = style  keep = [OUT01] }`,
  },
  'empty-text': {
    means: `There is nothing between these quotes, and this attribute needs something.`,
    wrong: `checkpoint pony { path = "" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'missing-attribute': {
    means: `Most attributes have a default and can be left out. This one has none: nobody but you knows what belongs there.`,
    wrong: `train raw { base = pony }`,
    right: `train raw { base = pony  data = hero }`,
  },
  'no-function': {
    means: `Values are written out, or come from a let or a param; nothing is called to get one.`,
    wrong: `checkpoint pony { path = home("pony.safetensors") }`,
    right: `checkpoint pony { path = "~/pony.safetensors" }`,
  },
  'not-computable': {
    means: `This calculation has no result: something is divided by 0, or the numbers became too large.`,
    wrong: `resize small { from = style  thr = 1 / 0 }`,
    right: `resize small { from = style  thr = -3.5 }`,
  },
  'nothing-asked': {
    means: `A program says what is to exist, in blocks. This one has none, so there is nothing to make.`,
    wrong: `# The program comes later.`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'odd-path': {
    means: `In double quotes "\\n" is a line break and "\\t" a tab, also in the middle of a Windows path. Single quotes take
text as it stands.`,
    wrong: `checkpoint pony { path = "new\\try.safetensors" }`,
    right: `checkpoint pony { path = 'new\\try.safetensors' }`,
  },
  'odd-variable': {
    means: `env("NAME") is the value of a variable of the environment, env("NAME", "default") has one for when it is not set.
The name is text in quotes, and the default one plain value.`,
    wrong: `checkpoint pony { path = env(PONY) }`,
    right: `checkpoint pony { path = env("PONY", "pony.safetensors") }`,
  },
  'out-of-range': {
    means: `The value is of the right kind, and too small, too large, or no whole number where only whole ones make sense.
docs/language.md has the range of every attribute.`,
    wrong: trainWith('steps = 0'),
    right: trainWith('steps = 80'),
  },
  'param-kind': {
    means: `A param has the kind of its default: a number, a text, true or false. What is given for it has to be of that kind
too, also on the command line.`,
    wrong: `param steps = 80 # lorac build -p steps=many\n\n${trainWith('steps = steps')}`,
    right: `param steps = 80 # lorac build -p steps=120\n\n${trainWith('steps = steps')}`,
  },
  'pickled-file': {
    means: `Files that end in .ckpt, .pt or .pth are Python pickles: to open one is to run a program that its author wrote.
lorac opens none. Nearly every checkpoint is also published as .safetensors.`,
    wrong: `checkpoint pony { path = "pony.ckpt" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'quoted-name': {
    means: `Names of blocks stand without quotes. Only a save block has quotes there, since its name is a path.`,
    wrong: `checkpoint "pony" { path = "pony.safetensors" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'repeats-of-folders': {
    means: `With folders = kohya a folder such as 5_fox says by its name that its images are used five times in an epoch, so
a second number would contradict it.`,
    wrong: `dataset hero { images = "images"  folders = kohya  repeats = 3 }`,
    right: `dataset hero { images = "images"  folders = kohya }`,
  },
  'same-path': {
    means: `Two blocks save to one path, and the later one would replace the first.`,
    wrong: `save "hero.safetensors" { from = raw }\nsave "hero.safetensors" { from = style }`,
    right: `save "hero.safetensors"  { from = raw }\nsave "style.safetensors" { from = style }`,
  },
  'same-separator': {
    means: `Two of the texts that divide a caption are the same, so it cannot be told which of them is meant.`,
    wrong: `dataset hero { images = "images"  keep_tokens_separator = "||"  secondary_separator = "||" }`,
    right: `dataset hero { images = "images"  keep_tokens_separator = "||"  secondary_separator = ";;" }`,
  },
  'too-complex': {
    means: `Names that stand for names that stand for names have become more than a program can hold. Write the values out.`,
    wrong: [
      'let a = step',
      ...Array.from({ length: 25 }, (_, index) => {
        const [name, before] = [97 + index + 1, 97 + index].map((letter) => String.fromCharCode(letter));
        return `let ${name} = ${before} * ${before}`;
      }),
      trainWith('optimizer = SAVEUS { clip_lambda = z }'),
    ].join('\n'),
    right: trainWith('optimizer = SAVEUS { clip_lambda = step ** 0.25 }'),
  },
  'unknown-attribute': {
    means: `This kind of block has no attribute of that name. Words of other trainers are known, and the hint says what they
are called here; docs/language.md lists all there are.`,
    wrong: trainWith('max_train_steps = 2000'),
    right: trainWith('steps = 2000'),
  },
  'unknown-kind': {
    means: `A block begins with its kind, and there is no such kind.`,
    wrong: `chekpoint base { path = "pony.safetensors" }`,
    right: `checkpoint base { path = "pony.safetensors" }`,
  },
  'unknown-name': {
    means: `A name is used that no block, let or param of the program has. It may be misspelt, or what it names is missing.`,
    wrong: `resize small { from = stile }\nlora style { path = "style.safetensors"  base = pony }`,
    right: `resize small { from = style }\nlora style { path = "style.safetensors"  base = pony }`,
  },
  'unknown-param': {
    means: `-p sets a param that the program has. This one does not have it: the name may be misspelt, or the param is
missing.`,
    wrong: `param name = "hero" # lorac build -p nmae=other\n\nsave "\${name}.safetensors" { from = raw }`,
    right: `param name = "hero" # lorac build -p name=other\n\nsave "\${name}.safetensors" { from = raw }`,
  },
  'unknown-word': {
    means: `This attribute has one of a few words, and this is none of them.`,
    wrong: trainWith('mixed_precision = half'),
    right: trainWith('mixed_precision = bf16'),
  },
  'unset-param': {
    means: `A param without a default has to be given whenever the program is built.`,
    wrong: `param name\n\nsave "\${name}.safetensors" { from = raw }`,
    right: `param name = "hero"\n\nsave "\${name}.safetensors" { from = raw }`,
  },
  'unset-variable': {
    means: `A variable of the environment is asked for that is not set where lorac runs, and there is no default.`,
    wrong: `checkpoint pony { path = env("PONY") }`,
    right: `checkpoint pony { path = env("PONY", "pony.safetensors") }`,
  },
  'unused-block': {
    means: `The program saves something, and this block has no part in it. Perhaps another block should be made from it; if it
was only a try, take it out or put # before its lines, since every build makes it.`,
    wrong: `resize small { from = style }\nchop tiny { from = small  keep = [OUT01] }\nsave "tiny.safetensors" { from = small }`,
    right: `resize small { from = style }\nchop tiny { from = small  keep = [OUT01] }\nsave "tiny.safetensors" { from = tiny }`,
  },
  'unused-definition': {
    means: `A let or a param has a name that nothing uses, so that changing its value changes nothing.`,
    wrong: `param name = "mine"\n\nsave "style.safetensors" { from = style }`,
    right: `param name = "mine"\n\nsave "\${name}.safetensors" { from = style }`,
  },
  'variable-kind': {
    means: `A variable has the kind of its default: a number, a text, true or false. What the environment has is not of that
kind.`,
    wrong: `# STEPS=many lorac build\n${trainWith('steps = env("STEPS", 80)')}`,
    right: `# STEPS=120 lorac build\n${trainWith('steps = env("STEPS", 80)')}`,
  },
  'wrong-kind': {
    means: `Each attribute that names a block needs one of a certain kind: base a checkpoint, data a dataset, from a LoRA.`,
    wrong: `resize small { from = pony }`,
    right: `resize small { from = style }`,
  },
  'wrong-length': {
    means: `This list has a fixed number of values, each with a meaning of its own.`,
    wrong: trainWith('optimizer = SAVEUS { betas = [0.9] }'),
    right: trainWith('optimizer = SAVEUS { betas = [0.9, 0.999] }'),
  },
  'wrong-type': {
    means: `The attribute needs another kind of value: a number and not a text, a word without quotes, a list in brackets.`,
    wrong: trainWith('steps = "80"'),
    right: trainWith('steps = 80'),
  },
  'wrong-unit': {
    means: `A unit has to fit what the attribute counts: px where it counts pixels, MB and the like where it is a size, % where
it is a share. Everything else is a plain number.`,
    wrong: trainWith('steps = 10%'),
    right: trainWith('steps = 8'),
  },
};
