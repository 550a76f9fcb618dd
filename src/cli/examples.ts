// What `--help` says below the options, of lorac and of each command that needs more than a line.

export const examples = `
Examples:
  lorac build                      build the .lora file of this folder
  lorac build hero.lora tiny       only what the block "tiny" needs
  lorac plan hero.lora             what would run, and why
  lorac check hero.lora            find mistakes before a night is lost to them

A first program, hero.lora:
  checkpoint pony { path = "models/pony.safetensors" }
  dataset    hero { images = "training_dir" }
  train  raw   { base = pony  data = hero }
  resize small { from = raw }
  chop   tiny  { from = small  keep = [OUT01] }
  save "hero.safetensors" { from = tiny }

Exit codes: 0 done, 1 a stage failed, 2 the program or the command line is wrong, 130 interrupted.`;

export const fmtExamples = `
Examples:
  lorac fmt                        every .lora file of this folder
  lorac fmt --check hero.lora      what would change
  lorac fmt - < hero.lora          from stdin to stdout, for editors

Line breaks are yours: what stands on one line stays there while it fits 110 columns. Blanks, columns and blank lines
are the formatter's. Comments stay, and what cannot be read stays as it is.`;

export const lintExamples = `
Examples:
  lorac lint                       every dataset of the program in this folder
  lorac lint hero.lora character   only that one
  lorac lint --fast                in a moment, from headers

Errors are what a build would refuse; with one of them the exit code is 1. Warnings and notes stop nothing.
What was seen in the pixels of an image is kept, so the next look is quick.`;

export const initExamples = `
The program is written into this folder, and names the images and the checkpoint from there. Checkpoints are looked for
here, in the folders above, where ComfyUI, A1111 and Forge keep theirs beside them, at home, and in LORAC_MODELS (folders,
as PATH has them); their headers say which are SDXL.

Examples:
  lorac init pictures                   asks for a name, and for the checkpoint where there are several
  lorac init pictures --yes --name fox  fox.lora, without a question`;

export const joinExamples = `
The program is built on one machine, with launch = torchrun { machines = 2  rendezvous = "gpu1:29400" } in its train block.
This one waits for its trainings, one after another, until Ctrl-C; one that it takes part in stops as well, and keeps its
steps. It needs the same lorac, and the checkpoint and .lorac under the same paths, such as on a disk that both share. All
ports have to be open between them: who reaches the rendezvous can take part, so it belongs in a network of your own.

Examples:
  lorac join gpu1:29400                    one process for each GPU of this machine
  lorac join gpu1:29400 --processes 2      two`;

export const exportExamples = `
Examples:
  lorac export --sd-scripts hero.lora            print it
  lorac export --sd-scripts hero.lora raw > train.sh

What sd-scripts cannot do, or does otherwise, stands in comments before the command. lorac import reads it back.`;

export const importExamples = `
What is understood: commands of sd-scripts, with the lines that continue them in any shell, and its configuration and
dataset files (TOML); settings of the kohya_ss GUI and of OneTrainer (JSON); jobs of ai-toolkit (YAML).
What has no counterpart stands as a comment at the end of the program, with the reason. Nothing is run.

Examples:
  lorac import train.sh -o hero.lora           from the script that started a training
  lorac import                                 paste a command, then Ctrl-D
  lorac import config.toml | less              look at it first

This is not the statement import "file.lora", with which a program takes in the blocks of another.`;

export const buildExamples = `
Examples:
  lorac build hero.lora -p name=other          set the program's param "name"
  lorac build hero.lora --rerun raw            train once more, though nothing changed
  lorac build hero.lora --reporter json        one JSON object per line, for programs

Results are kept in .lorac beside the program (LORAC_STORE names another folder).
Ctrl-C stops after saving state, and the next build goes on from there; a second Ctrl-C stops at once.`;

export const presetsExamples = `
Examples:
  lorac presets                        one line for each
  lorac presets guide                  its text: every value with a reason
  lorac presets guide > recipe.lora    a copy to change

In a program:
  import "lorac:guide" as guide
  checkpoint pony { path = "models/pony.safetensors" }
  dataset    hero extends guide.pictures { images = "training_dir" }
  train      raw  extends guide.recipe   { base = pony  data = hero }`;

export const chopExamples = `
Blocks are IN00 to IN08, MID00 to MID02, OUT00 to OUT08, TE1, TE2, and REST for what is left. IN, MID, OUT and TE stand
for all of theirs, and patterns such as "OUT0*" for all that fit. TE1.3 is a layer of a text encoder, "TE2.1*" are several.
Text encoders stay unless something says otherwise; of one with layers after --keep or --weights, only these stay.
Files of Stable Diffusion 1 and 2 have IN00 to IN11, OUT00 to OUT11 and TE, and vectors of 17, 26 or 27 weights.

Examples:
  lorac chop hero.safetensors                                   list its blocks
  lorac chop hero.safetensors --keep OUT01                      hero-chop.safetensors, with one block
  lorac chop hero.safetensors --keep OUT01 --text-encoders drop
  lorac chop hero.safetensors --drop "IN*,TE1.11" -o small.safetensors
  lorac chop hero.safetensors --weights OUT01=1,MID00=0.5       a weight of 0.5 halves what a block does, exactly
  lorac chop hero.safetensors 1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0
  lorac chop hero.safetensors SDXL-LyC-OUTALL                   presets of ComfyUI's Inspire pack
  lorac chop hero.safetensors "%default=0,base=1,out2=1"        its % vectors; places count the blocks of the file
  lorac chop hero.safetensors --format diffusers                other names for the modules, and nothing else

The first number of a vector weighs all that lies outside the blocks, text encoders among it, as in ComfyUI.
A file of any trainer is written with kohya's names, which nearly all programs read; one that has them keeps them.`;

export const resizeExamples = `
A recipe is key=number with commas between, several recipes have colons between them.
  fro_ckpt, spn_ckpt, fro_lora, spn_lora, subspace, params   weights of what singular values are measured against
  thr=-3.55          keep directions whose score, a base-10 logarithm, is not below this
  size=20            keep as many as fit 20 MiB, header and all; goes before thr
  max_rank, min_rank, sv_ratio, sv_fro, sv_cumulative   cut each module by itself; without thr or size, by these alone
  rescale=1.5        multiply the whole LoRA
  extract=64         as --extract, for this recipe alone
  thr=-3/-3.5/-4     a key with several numbers makes a file for each

Examples:
  lorac resize pony.safetensors hero.safetensors                         hero_frockpt1_th-3.55.safetensors
  lorac resize pony.safetensors hero.safetensors -r fro_ckpt=1,thr=-3/-3.4/-3.8:spn_lora=1,thr=-1 -o small
  lorac resize pony.safetensors *.safetensors -r spn_lora=1,size=20 -o small -t bf16
  lorac resize pony.safetensors hero.safetensors -r sv_fro=0.9,max_rank=16
  lorac resize models/sdxl hero.safetensors:0.7,style.safetensors:0.4 -r max_rank=32     a sum of two, made small

Decompositions are kept in the user's cache folder (LORAC_STORE names another), so another threshold takes a moment.`;

export const mergeExamples = `
Examples:
  lorac merge hero.safetensors:0.8 style.safetensors:0.5 -o both.safetensors
  lorac merge style.safetensors sliders.safetensors:-0.7 -o less.safetensors     a negative weight takes away
  lorac merge hero.safetensors -o hero32.safetensors --precision fp32            one file, with other numbers
  lorac merge a.safetensors b.safetensors -o both.safetensors --format diffusers

Nothing is approximated: ranks add up, so the sum is about as large as the files together. To make it smaller:
  lorac resize pony.safetensors both.safetensors -r fro_ckpt=1,thr=-3.55
DoRA, OFT and GLoRA modules cannot be added to others; where only one file has them they stay, at the weight 1.`;

export const inspectExamples = `
Examples:
  lorac inspect hero.safetensors                        what it is made of
  lorac inspect hero.safetensors --norms                and how strong each block is
  lorac inspect hero.safetensors pony.safetensors       … relative to the weights of its base
  lorac inspect before.safetensors after.safetensors    what differs

Norms are there at once where lorac has decomposed the file before; else they are measured, which may take seconds.
What DoRA, GLoRA and IA3 do depends on the weights that they change, and is measured only where the base is given.`;

export const analyzeExamples = `
Without prompts it takes seconds: for each block ‖ΔW‖ (how strong it is), ‖ΔW‖/‖W‖ (compared with the weights that it
changes), the rank that holds 90 % of it, and the effective rank (over how many directions it is spread).

With prompts every block is seen at work. The same picture is rendered without the LoRA, twice with all of it (what differs
there is rounding), with each block alone and with each block off: 3 + 2 × blocks pictures for each prompt. Then:
  only      how far the block alone goes the way from none to all
  without   how much of that way is lost when the block is off
  no.       its place by the mean of the two
At last it looks for the shortest beginning of that ranking that keeps the wanted share, by rendering what it proposes,
and says what to type. Each picture is kept in the user's cache folder (LORAC_STORE names another): Ctrl-C loses none.

Examples:
  lorac analyze hero.safetensors pony.safetensors                              numbers only
  lorac analyze hero.safetensors pony.safetensors --prompt "hero, standing in a field"
  lorac analyze hero.safetensors pony.safetensors --prompt "hero, portrait --d 7" --prompt "hero, from behind"
  lorac analyze hero.safetensors pony.safetensors --prompts prompts.txt --share 0.9 -o hero-at-90
  lorac analyze hero.safetensors pony.safetensors --prompt hero --size 768x768 --steps 12    quicker, and rougher

Prompts are written as in sample files: --n what to avoid, --w --h size, --d seed, --s steps, --l guidance.`;
