// Sweeps, and the variants that they make.

import type { Explanations } from './explanation.ts';

const swept = 'resize small { from = style  thr = sweep [-3, -3.5, -4] }';
const of = (from: string): string => `${swept}\nchop tiny { from = ${from}  keep = [OUT01] }`;

export const sweeps: Explanations = {
  'empty-sweep': {
    means: `A sweep makes a variant for each of its values. Without values nothing would be made.`,
    wrong: `resize small { from = style  thr = sweep [] }`,
    right: swept,
  },
  'excluded-variant': {
    means: `"exclude" leaves out combinations of values, and something asks for one of them.`,
    wrong: `resize small {\n  from    = style\n  thr     = sweep [-3, -4]\n  exclude = [{ thr = -4 }]\n}\nchop tiny { from = small[thr=-4]  keep = [OUT01] }`,
    right: `resize small { from = style  thr = sweep [-3, -4] }\nchop tiny { from = small[thr=-4]  keep = [OUT01] }`,
  },
  'key-in-list': {
    means: `A list has values only. Names belong to values in braces.`,
    wrong: `chop tiny { from = style  keep = [first = OUT01] }`,
    right: `chop tiny { from = style  keep = [OUT01] }`,
  },
  'misplaced-sweep': {
    means: `A sweep is the whole value of an attribute. To calculate with its values, give it a name.`,
    wrong: `resize small { from = style  thr = -1 * sweep [3, 4] }`,
    right: `let depth = sweep [3, 4]\nresize small { from = style  thr = -1 * depth }`,
  },
  'missing-sweep-comma': {
    means: `Two values without a comma between them, the second with a minus, are a subtraction: one value.`,
    wrong: `resize small { from = style  thr = sweep [-3 -3.5] }`,
    right: `resize small { from = style  thr = sweep [-3, -3.5] }`,
  },
  'nameless-value': {
    means: `Each variant is called by its value. This value cannot be part of a name, so give the values names.`,
    wrong: `chop tiny { from = style  keep = sweep [[OUT01], [OUT02, OUT03, OUT04, OUT05, MID00, MID01, MID02]] }`,
    right: `chop tiny {\n  from = style\n  keep = sweep { one = [OUT01]  many = [OUT02, OUT03, OUT04, OUT05, MID00, MID01, MID02] }\n}`,
  },
  'nothing-left': {
    means: `Everything that this sweep would make is left out by exclude.`,
    wrong: `resize small { from = style  thr = sweep [-3, -4]  exclude = [{ thr = -3 }, { thr = -4 }] }`,
    right: `resize small { from = style  thr = sweep [-3, -4]  exclude = [{ thr = -3 }] }`,
  },
  'odd-exclude': {
    means: `"exclude" is a list of combinations in braces, each with values of sweeps that are not to be made together.`,
    wrong: `resize small { from = style  thr = sweep [-3, -4]  exclude = [-4] }`,
    right: `resize small { from = style  thr = sweep [-3, -4]  exclude = [{ thr = -4 }] }`,
  },
  'odd-variant-name': {
    means: `Names of variants become parts of file names, so they are made of letters, digits and _ . + - alone.`,
    wrong: `resize small { from = style  thr = sweep { "a b" = -3  c = -4 } }`,
    right: `resize small { from = style  thr = sweep { a_b = -3  c = -4 } }`,
  },
  'pick-without-name': {
    means: `A variant is named by the sweep and its value, since a block can depend on several sweeps.`,
    wrong: of('small[-4]'),
    right: of('small[thr=-4]'),
  },
  'quotient-for-sweep': {
    means: `lorac resize takes several thresholds with slashes between. In a program the same is a division; several values
are a sweep.`,
    wrong: `resize small { from = style  thr = -3/-3.5/-4 }`,
    right: `resize small { from = style  thr = sweep [-3, -3.5, -4] }`,
  },
  'saved-again': {
    means: `The path of a save has a swept value in it, and what is saved does not depend on that sweep: the same LoRA would be
saved once for each value.`,
    wrong: `let t = sweep [-3, -4]\nresize small { from = style  thr = t }\nsave "small-\${t}.safetensors" { from = small }\nsave "style-\${t}.safetensors" { from = style }`,
    right: `let t = sweep [-3, -4]\nresize small { from = style  thr = t }\nsave "small-\${t}.safetensors" { from = small }`,
  },
  'slash-in-path': {
    means: `A value of the sweep becomes part of the path that is saved to, and its slash would make a folder of it.`,
    wrong: `checkpoint pony { path = sweep ["a/x.safetensors", "b/x.safetensors"] }\ntrain raw { base = pony  data = hero }\nsave "hero-\${pony.path}.safetensors" { from = raw }`,
    right: `checkpoint pony { path = sweep { one = "a/x.safetensors"  two = "b/x.safetensors" } }\ntrain raw { base = pony  data = hero }\nsave "hero-\${pony.path}.safetensors" { from = raw }`,
  },
  'sweep-of-one': {
    means: `With one value there is one variant, as without a sweep, and only its name is longer.`,
    wrong: `resize small { from = style  thr = sweep [-3.5] }`,
    right: `resize small { from = style  thr = -3.5 }`,
  },
  'swept-twice': {
    means: `A value stands twice in a sweep, and its variant would be made twice under one name.`,
    wrong: `resize small { from = style  thr = sweep [-3, -4, -3] }`,
    right: `resize small { from = style  thr = sweep [-3, -4] }`,
  },
  'too-many-variants': {
    means: `Each sweep multiplies the number of variants: ten values here and ten there are a hundred builds. Nobody looks at
thousands.`,
    wrong: `let many = sweep [${Array.from({ length: 40 }, (_, index) => index + 1).join(', ')}]\nlet more = sweep [${Array.from({ length: 40 }, (_, index) => index + 1).join(', ')}]\nresize small { from = style  max_rank = many  size = more }`,
    right: `resize small { from = style  max_rank = sweep [4, 8]  size = sweep [10, 20] }`,
  },
  'unknown-sweep': {
    means: `The variants of this block do not differ by the sweep that is named.`,
    wrong: of('small[tr=-4]'),
    right: of('small[thr=-4]'),
  },
  'unknown-swept-value': {
    means: `The sweep has no such value, so there is no such variant.`,
    wrong: of('small[thr=-5]'),
    right: of('small[thr=-4]'),
  },
};
