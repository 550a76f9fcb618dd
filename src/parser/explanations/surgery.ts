// What is done to LoRAs: chop, merge, resize, preview, analyze, save, and which of a training's LoRAs is meant.

import { type Explanations, trainWith } from './explanation.ts';

export const surgery: Explanations = {
  'average-of-one': {
    means: `raw@ema(0.9) averages the LoRAs that were saved on the way. This training saves one only, so there is nothing to
average.`,
    wrong: `${trainWith('steps = 80  save_every = 80')}\nresize small { from = raw@ema(0.9) }`,
    right: `${trainWith('steps = 80  save_every = 10')}\nresize small { from = raw@ema(0.9) }`,
  },
  'chop-choice': {
    means: `A chop says in exactly one way which blocks stay: keep, drop, mask or weights.`,
    wrong: `chop tiny { from = style }`,
    right: `chop tiny { from = style  keep = [OUT01] }`,
  },
  'duplicate-item': {
    means: `The same thing stands twice in a list where it can count only once.`,
    wrong: `merge both { from = [style, raw, style] }`,
    right: `merge both { from = [style, raw] }`,
  },
  'empty-list': {
    means: `There is nothing between the brackets, and this attribute needs at least one thing.`,
    wrong: `merge both { from = [] }`,
    right: `merge both { from = [style, raw] }`,
  },
  'format-of-picture': {
    means: `"format" chooses what the modules of a LoRA are called in its file. A picture has none.`,
    wrong: `preview grid { loras = [style]  prompts = "prompts.txt" }\nsave "grid.png" { from = grid  format = kohya }`,
    right: `preview grid { loras = [style]  prompts = "prompts.txt" }\nsave "grid.png" { from = grid }`,
  },
  'mask-entry': {
    means: `A mask is a text of numbers with commas between them, one for each block.`,
    wrong: `chop tiny { from = style  mask = "1,0,0,0,0,x,0,1,0,0,0,0" }`,
    right: `chop tiny { from = style  mask = "1,0,0,0,0,0,0,1,0,0,0,0" }`,
  },
  'mask-first': {
    means: `Programs disagree about the first number of a mask: ComfyUI weighs the text encoders with it, chop_blocks
multiplies the blocks by it. lorac does as ComfyUI. With 1 there is no difference.`,
    wrong: `chop tiny { from = style  mask = "0.5,0,0,0,0,0,0,1,0,0,0,0" }`,
    right: `chop tiny { from = style  mask = "1,0,0,0,0,0,0,1,0,0,0,0"  text_encoders = 0.5 }`,
  },
  'mask-length': {
    means: `A mask has a number for each block, and which block each number means is told by how many there are: 12 for LoRA,
20 or 21 for files with more. With another length, numbers would land on the wrong blocks.`,
    wrong: `chop tiny { from = style  mask = "1,0,1" }`,
    right: `chop tiny { from = style  mask = "1,0,0,0,0,0,0,1,0,0,0,0" }`,
  },
  'merged-bases': {
    means: `The LoRAs of this sum were trained on different checkpoints. The sum can be made, but how well it works on either
of them nobody can say; where a base is needed later, it is that of the first.`,
    wrong: `checkpoint illu { path = "illu.safetensors" }
lora far { path = "far.safetensors"  base = illu }
merge both { from = [style, far] }`,
    right: `lora near { path = "near.safetensors"  base = pony }
merge both { from = [style, near] }`,
  },
  'no-base': {
    means: `A LoRA file does not say which checkpoint it was trained on, and what you ask for needs the checkpoint: to measure
how strong a change is, or to render with it.`,
    wrong: `checkpoint pony { path = "pony.safetensors" }\nlora style { path = "style.safetensors" }\nresize small { from = style }`,
    right: `checkpoint pony { path = "pony.safetensors" }\nlora style { path = "style.safetensors"  base = pony }\nresize small { from = style }`,
  },
  'no-best': {
    means: `raw@best is the step with the lowest loss on images that the training never sees. Without validation there is no
such measure.`,
    wrong: `resize small { from = raw@best }`,
    right: `${trainWith('validation = { share = 0.1 }')}\nresize small { from = raw@best }`,
  },
  'no-kept-average': {
    means: `raw@ema is the average that a training keeps while it runs, and this one keeps none.`,
    wrong: `resize small { from = raw@ema }`,
    right: `${trainWith('ema = 0.99')}\nresize small { from = raw@ema }`,
  },
  'no-picture': {
    means: `An analysis without prompts measures numbers alone; with prompts it renders a picture that can be saved.`,
    wrong: `analyze blocks { from = style }\nsave "blocks.png" { from = blocks }`,
    right: `analyze blocks { from = style  prompts = "prompts.txt" }\nsave "blocks.png" { from = blocks }`,
  },
  'no-step-choice': {
    means: `"@" chooses a step, and only a train block has steps. A resized or chopped LoRA is one file; choose the step where
the training is named.`,
    wrong: `resize small { from = raw }\nchop tiny { from = small@40  keep = [OUT01] }`,
    right: `resize small { from = raw@40 }\nchop tiny { from = small  keep = [OUT01] }`,
  },
  'odd-choice': {
    means: `Behind "@" stands which LoRA of a training is meant: the number of a step, best, or ema(0.9).`,
    wrong: `resize small { from = raw@last }`,
    right: `resize small { from = raw@40 }`,
  },
  'rank-order': {
    means: `No rank can be at least min_rank and at most max_rank when min_rank is the larger one.`,
    wrong: `resize small { from = style  min_rank = 16  max_rank = 8 }`,
    right: `resize small { from = style  min_rank = 8  max_rank = 16 }`,
  },
  'save-name': {
    means: `A save block has no name but a path, and paths are texts in quotes.`,
    wrong: `save mine { from = raw }`,
    right: `save "mine.safetensors" { from = raw }`,
  },
  'save-path': {
    means: `LoRAs are saved as .safetensors files and pictures as .png files; programs go by these endings.`,
    wrong: `save "hero.png" { from = raw }`,
    right: `save "hero.safetensors" { from = raw }`,
  },
  'score-sum': {
    means: `The score of a direction is a weighted mean, which is divided by the sum of the weights; here that sum is 0.`,
    wrong: `resize small { from = style  fro_ckpt = 1  params = -1 }`,
    right: `resize small { from = style  fro_ckpt = 1  params = 0.5 }`,
  },
  'step-beyond': {
    means: `A step is named that the training never reaches.`,
    wrong: `${trainWith('steps = 80')}\nresize small { from = raw@100 }`,
    right: `${trainWith('steps = 80')}\nresize small { from = raw@80 }`,
  },
  'thr-and-size': {
    means: `thr says how strong a direction has to be to stay, size how large the file may become. Only one can decide.`,
    wrong: `resize small { from = style  thr = -3.5  size = 20 }`,
    right: `resize small { from = style  size = 20 }`,
  },
  'two-bases': {
    means: `The LoRAs of this preview were trained on different checkpoints, and one checkpoint has to render them all.`,
    wrong: `checkpoint illu { path = "illu.safetensors" }
lora far { path = "far.safetensors"  base = illu }
preview grid { loras = [style, far]  prompts = "prompts.txt" }`,
    right: `checkpoint illu { path = "illu.safetensors" }
lora far { path = "far.safetensors"  base = illu }
preview grid { loras = [style, far]  base = pony  prompts = "prompts.txt" }`,
  },
  'unknown-block': {
    means: `Blocks of the network are called IN00 to IN08, MID00 to MID02, OUT00 to OUT08, TE1, TE2 and REST. IN, MID and OUT
stand for all of theirs, and patterns such as "OUT0*" for all that fit.`,
    wrong: `chop tiny { from = style  keep = [OUT10] }`,
    right: `chop tiny { from = style  keep = [OUT01] }`,
  },
  'zero-strength': {
    means: `At strength 0 a LoRA changes nothing. A picture without the LoRA is shown anyway, unless without = false.`,
    wrong: `preview grid { loras = [style]  prompts = "prompts.txt"  strengths = [0, 1] }`,
    right: `preview grid { loras = [style]  prompts = "prompts.txt"  strengths = [0.5, 1] }`,
  },
  'zero-weight': {
    means: `What is added with weight 0 adds nothing to a sum.`,
    wrong: `merge both { from = { raw = 1  style = 0 } }`,
    right: `merge both { from = { raw = 1  style = 0.5 } }`,
  },
};
