// The front door: reads argv and env, and sets the exit code. Nobody else does.
// Each command is imported when it is asked for, so that `lorac --version` reads next to nothing.
//
// Exit codes: 0 done · 1 a stage failed, or lorac itself · 2 the program or the command line is wrong · 130 interrupted.

import { Command, CommanderError, Option } from 'commander';
import about from '../package.json' with { type: 'json' };
import { UsageError } from './cli/usage-error.ts';
import { cleanLine, cleanLines } from './parser/clean-text.ts';
import { LORA_FORMATS } from './parser/lora-formats.ts';
import { reporterKinds } from './tui/reporter.ts';

const WRONG_USE = 2;
const OUR_BUG = 1;

function commandLine(): Command {
  const lorac = new Command('lorac')
    .description(about.description)
    .version(about.version, '-V, --version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [COMMAND]', 'show help for a command')
    .showHelpAfterError('(lorac --help shows what can be written here)')
    .configureOutput({ outputError: (text, write) => write(cleanLines(text).join('\n')) })
    .exitOverride()
    .addHelpText('after', examples);

  lorac
    .command('build')
    .description('make what a .lora file asks for, doing again only what a change makes necessary')
    .argument('[FILE]', 'the .lora file; may be left out when the folder has exactly one')
    .argument('[TARGET...]', 'names of blocks or nodes to build, with what they need (default: everything)')
    .addOption(param())
    .option('-n, --dry-run', 'say what would run, and why, and do nothing')
    .addOption(new Option('--reporter <KIND>', 'how to tell what happens').choices(reporterKinds).env('LORAC_REPORTER'))
    .addOption(rerun())
    .addHelpText('after', buildExamples)
    .action(async (file: string | undefined, targets: string[], options) => {
      const { build } = await import('./cli/build.ts');
      process.exitCode = await build({ file, targets, ...options });
    });

  lorac
    .command('plan')
    .description('say what a build would run, and why')
    .argument('[FILE]', 'the .lora file')
    .argument('[TARGET...]', 'names of blocks or nodes')
    .addOption(param())
    .addOption(rerun())
    .addOption(format())
    .action(async (file: string | undefined, targets: string[], options) => {
      const { plan } = await import('./cli/plan.ts');
      process.exitCode = await plan({ file, targets, ...options });
    });

  lorac
    .command('check')
    .description('find mistakes in a .lora file, without building anything')
    .argument('[FILE]', 'the .lora file')
    .addOption(param())
    .option('--no-files', 'judge the text alone, not whether the files it names exist')
    .option('--fix', 'first write into the file what can be mended without asking, and say what')
    .addOption(format())
    .action(async (file: string | undefined, options) => {
      const { check } = await import('./cli/check.ts');
      process.exitCode = await check({ file, ...options });
    });

  lorac
    .command('fmt')
    .description('write .lora files in the one style: blanks and columns, never what a program means')
    .argument('[FILE...]', 'programs, folders of programs, or - for stdin (default: all of this folder)')
    .option('--check', 'change nothing, and show what would change; exit code 1 if anything would')
    .option('--stdout', 'print the result, and leave the file as it is')
    .addHelpText('after', fmtExamples)
    .action(async (files: string[], options) => {
      const { fmt } = await import('./cli/fmt.ts');
      process.exitCode = await fmt({ files, ...options });
    });

  lorac
    .command('explain')
    .description('say what a diagnostic means, with an example that is wrong and one that is right')
    .argument('[CODE]', 'what stands in brackets behind a message (default: list all)')
    .action(async (code: string | undefined) => {
      const { explain } = await import('./cli/explain.ts');
      process.exitCode = explain(code);
    });

  lorac
    .command('lint')
    .description('say what is odd about the images and captions of datasets, and what trainings will do with them')
    .argument('[FILE]', 'the .lora file')
    .argument('[DATASET...]', 'names of dataset blocks (default: all)')
    .addOption(param())
    .option('--fast', 'look at files and headers alone, not at pixels: needs no Python, and finds no near duplicates')
    .option('--json', 'one JSON object on stdout, with everything in full')
    .addHelpText('after', lintExamples)
    .action(async (file: string | undefined, datasets: string[], options) => {
      const { lint } = await import('./cli/lint.ts');
      process.exitCode = await lint({ file, datasets, ...options });
    });

  lorac
    .command('chop')
    .description('list the blocks of a LoRA file, or write another file with only some of them')
    .argument('<FILE>', 'a LoRA in a .safetensors file')
    .argument('[VECTOR]', '12, 20 or 21 weights, a preset or a % vector, as ComfyUI and chop_blocks take them')
    .option('--keep <BLOCKS>', 'blocks that stay, with commas between them; all others go')
    .option('--drop <BLOCKS>', 'blocks that go; all others stay')
    .option('--weights <BLOCK=WEIGHT,...>', 'a weight for each named block; all others go')
    .option('--text-encoders <WHAT>', 'keep, drop, or a weight, where nothing else names TE1 and TE2')
    .addOption(loraFormat())
    .option('-o, --output <FILE>', 'where to put it (default: beside FILE, as NAME-chop.safetensors)')
    .option('--overwrite', 'replace a file that is there')
    .addHelpText('after', chopExamples)
    .action(async (file: string, vector: string | undefined, options) => {
      const { chop } = await import('./cli/chop.ts');
      process.exitCode = await chop({ file, vector, ...options });
    });

  lorac
    .command('resize')
    .description('write smaller LoRAs: only those directions of each module whose score is high enough')
    .argument('<BASE>', 'the checkpoint that the LoRAs were trained on, or the folder of a diffusers model')
    .argument('<LORA...>', 'LoRAs in .safetensors files; a.safetensors:0.5,b.safetensors:0.5 is the sum of two')
    .option('-r, --recipes <RECIPE>', 'what stays, as resize_lora takes it', 'fro_ckpt=1,thr=-3.55')
    .option('--extract <RANK>', 'first make LoRA, of at most this rank, of LoHa, LoKr, GLoRA and full modules')
    .option('-o, --output <DIR>', 'where to put the results (default: beside each LoRA)')
    .addOption(
      new Option('-t, --output-dtype <TYPE>', 'numbers that results are stored in')
        .choices(['16', '32', 'bf16', 'fp16', 'fp32'])
        .default('16'),
    )
    .addOption(loraFormat())
    .option('--overwrite', 'replace files that lorac did not make')
    .addOption(new Option('--reporter <KIND>', 'how to tell what happens').choices(reporterKinds).env('LORAC_REPORTER'))
    .addHelpText('after', resizeExamples)
    .action(async (base: string, loras: string[], options) => {
      const { resize } = await import('./cli/resize.ts');
      process.exitCode = await resize({ base, loras, ...options });
    });

  lorac
    .command('merge')
    .description('add LoRAs up to one that does what all of them do, each at its weight')
    .argument(
      '<LORA[:WEIGHT]...>',
      'LoRAs in .safetensors files, of any trainer; a weight may be negative (default: 1)',
    )
    .requiredOption('-o, --output <FILE>', 'where to put the sum')
    .addOption(
      new Option('--precision <TYPE>', 'numbers that the sum is stored in')
        .choices(['fp16', 'bf16', 'fp32'])
        .default('fp16'),
    )
    .addOption(loraFormat())
    .option('--overwrite', 'replace a file that is there')
    .addHelpText('after', mergeExamples)
    .action(async (loras: string[], options) => {
      const { merge } = await import('./cli/merge.ts');
      process.exitCode = await merge({ loras, ...options });
    });

  lorac
    .command('inspect')
    .description('say what is in a LoRA file or a checkpoint, and what differs between two LoRAs')
    .argument('<FILE>', 'a .safetensors file')
    .argument('[OTHER]', 'another LoRA to compare with, or the checkpoint to measure strengths against')
    .option('--norms', 'say how strong each block is (some seconds for a large file that was never decomposed)')
    .option('--hashes', 'compute hashes (default: of LoRAs, not of checkpoints)')
    .option('--no-hashes', 'compute none')
    .option('--json', 'one JSON object on stdout, with everything in full')
    .addHelpText('after', inspectExamples)
    .action(async (file: string, other: string | undefined, options) => {
      const { inspect } = await import('./cli/inspect.ts');
      process.exitCode = await inspect({ file, other, ...options });
    });

  lorac
    .command('analyze')
    .description('say which blocks of a LoRA carry what: in numbers and, with prompts, by switching each on and off')
    .argument('<LORA>', 'a LoRA in a .safetensors file')
    .argument('<BASE>', 'the checkpoint that it was trained on, or that it is used with')
    .addOption(
      new Option('--prompt <TEXT>', 'render this prompt; may be given several times')
        .argParser(collect)
        .default([], 'none: numbers only'),
    )
    .option('--prompts <FILE>', 'render the prompts of a file, one per line')
    .option('--size <SIZE>', 'pixels of the pictures, such as 832x1216 (default: 1024x1024)')
    .option('--steps <N>', 'steps of each picture (default: 20; in a file 30)')
    .option('--seed <N>', 'seed of each picture (default: 0; in a file each line has its own)')
    .option('--share <SHARE>', 'how much of the effect the blocks that are proposed have to keep', '0.8')
    .addOption(
      new Option('--mixed-precision <TYPE>', 'numbers that are computed with')
        .choices(['bf16', 'fp32'])
        .default('bf16'),
    )
    .option('-o, --output <DIR>', 'where to put report.json and grid.png (default: beside LORA, in NAME-analysis)')
    .option('--overwrite', 'replace files that lorac did not make, and pictures by numbers alone')
    .option('--json', 'the report as one JSON object on stdout, progress on stderr')
    .addOption(new Option('--reporter <KIND>', 'how to tell what happens').choices(reporterKinds).env('LORAC_REPORTER'))
    .addHelpText('after', analyzeExamples)
    .action(async (lora: string, base: string, options) => {
      const { analyze } = await import('./cli/analyze.ts');
      process.exitCode = await analyze({ lora, base, ...options });
    });

  lorac
    .command('init')
    .description('write a first program for a folder of images: it looks, asks at most four questions, and says why')
    .argument('[FOLDER]', 'the folder with the images (default: this one)')
    .option('-y, --yes', 'ask nothing')
    .option('--name <NAME>', 'what the LoRA and the program are called (default: as the folder is)')
    .addHelpText('after', initExamples)
    .action(async (folder: string | undefined, options) => {
      const { init } = await import('./cli/init.ts');
      process.exitCode = await init({ folder, ...options });
    });

  lorac
    .command('import')
    .description('make a program of what another trainer was told: a pasted command, or a configuration file')
    .argument('[FILE]', 'the file; without it, or with -, what is pasted or piped in')
    .option('-o, --output <FILE>', 'where to put the program (default: it is printed)')
    .option('--overwrite', 'replace a file that is there')
    .addHelpText('after', importExamples)
    .action(async (file: string | undefined, options) => {
      const { importForeign } = await import('./cli/import.ts');
      process.exitCode = await importForeign({ file, ...options });
    });

  lorac
    .command('export')
    .description('print the command that another trainer would need for a training of a program')
    .argument('[FILE]', 'the .lora file')
    .argument('[TRAIN]', 'the name of a train block, where there are several')
    .option('--sd-scripts', 'for sdxl_train_network.py of sd-scripts')
    .addOption(param())
    .addHelpText('after', exportExamples)
    .action(async (file: string | undefined, train: string | undefined, options) => {
      const { exportTraining } = await import('./cli/export.ts');
      process.exitCode = await exportTraining({ file, train, ...options });
    });

  lorac
    .command('presets')
    .description('list the recipes that come with lorac, or print one')
    .argument('[NAME]', 'the preset whose text is printed')
    .addHelpText('after', presetsExamples)
    .action(async (name: string | undefined) => {
      const { listPresets, showPreset } = await import('./cli/presets.ts');
      process.exitCode = name === undefined ? listPresets() : showPreset(name);
    });

  lorac
    .command('env')
    .description("say where the worker's Python environment is, what is in it and how to remake it")
    .option('--python', 'make it if need be, and print the path of its interpreter and nothing else')
    .action(async (options) => {
      const { env } = await import('./cli/env.ts');
      process.exitCode = await env(options);
    });

  lorac
    .command('lsp')
    .description('serve an editor: mistakes, completion, hovers and more, over standard input and output')
    // Editors' libraries add it to whatever they start.
    .addOption(new Option('--stdio', 'what it does anyway').hideHelp())
    .addOption(new Option('--clientProcessId <ID>', 'ends when that process does').hideHelp())
    .action(async () => {
      const { lsp } = await import('./cli/lsp.ts');
      process.exitCode = await lsp();
    });

  for (const command of lorac.commands)
    command.showHelpAfterError(`(lorac ${command.name()} --help shows what can be written here)`);
  return lorac;
}

function param(): Option {
  return new Option('-p, --param <NAME=VALUE>', 'set a param of the program; may be given several times')
    .argParser(collect)
    .default([], 'as the program says');
}

function rerun(): Option {
  return new Option('--rerun <NODE>', 'compute this node again, fresh or not; may be given several times')
    .argParser(collect)
    .default([], 'none');
}

function format(): Option {
  return new Option('--format <FORMAT>', 'text to read, or JSON on stdout').choices(['text', 'json']).default('text');
}

function loraFormat(): Option {
  return new Option('--format <FORMAT>', 'what modules are called in the result (default: kohya)').choices(
    LORA_FORMATS,
  );
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

const examples = `
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

const fmtExamples = `
Examples:
  lorac fmt                        every .lora file of this folder
  lorac fmt --check hero.lora      what would change
  lorac fmt - < hero.lora          from stdin to stdout, for editors

Line breaks are yours: what stands on one line stays there while it fits 110 columns. Blanks, columns and blank lines
are the formatter's. Comments stay, and what cannot be read stays as it is.`;

const lintExamples = `
Examples:
  lorac lint                       every dataset of the program in this folder
  lorac lint hero.lora character   only that one
  lorac lint --fast                in a moment, from headers

Errors are what a build would refuse; with one of them the exit code is 1. Warnings and notes stop nothing.
What was seen in the pixels of an image is kept, so the next look is quick.`;

const initExamples = `
The program is written into this folder, and names the images and the checkpoint from there. Checkpoints are looked for
here, in the folders above, where ComfyUI, A1111 and Forge keep theirs beside them, at home, and in LORAC_MODELS (folders,
as PATH has them); their headers say which are SDXL.

Examples:
  lorac init pictures                   asks for a name, and for the checkpoint where there are several
  lorac init pictures --yes --name fox  fox.lora, without a question`;

const exportExamples = `
Examples:
  lorac export --sd-scripts hero.lora            print it
  lorac export --sd-scripts hero.lora raw > train.sh

What sd-scripts cannot do, or does otherwise, stands in comments before the command. lorac import reads it back.`;

const importExamples = `
What is understood: commands of sd-scripts, with the lines that continue them in any shell, and its configuration and
dataset files (TOML); settings of the kohya_ss GUI and of OneTrainer (JSON); jobs of ai-toolkit (YAML).
What has no counterpart stands as a comment at the end of the program, with the reason. Nothing is run.

Examples:
  lorac import train.sh -o hero.lora           from the script that started a training
  lorac import                                 paste a command, then Ctrl-D
  lorac import config.toml | less              look at it first

This is not the statement import "file.lora", with which a program takes in the blocks of another.`;

const buildExamples = `
Examples:
  lorac build hero.lora -p name=other          set the program's param "name"
  lorac build hero.lora --rerun raw            train once more, though nothing changed
  lorac build hero.lora --reporter json        one JSON object per line, for programs

Results are kept in .lorac beside the program (LORAC_STORE names another folder).
Ctrl-C stops after saving state, and the next build goes on from there; a second Ctrl-C stops at once.`;

const presetsExamples = `
Examples:
  lorac presets                        one line for each
  lorac presets guide                  its text: every value with a reason
  lorac presets guide > recipe.lora    a copy to change

In a program:
  import "lorac:guide" as guide
  checkpoint pony { path = "models/pony.safetensors" }
  dataset    hero extends guide.pictures { images = "training_dir" }
  train      raw  extends guide.recipe   { base = pony  data = hero }`;

const chopExamples = `
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

const resizeExamples = `
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

const mergeExamples = `
Examples:
  lorac merge hero.safetensors:0.8 style.safetensors:0.5 -o both.safetensors
  lorac merge style.safetensors sliders.safetensors:-0.7 -o less.safetensors     a negative weight takes away
  lorac merge hero.safetensors -o hero32.safetensors --precision fp32            one file, with other numbers
  lorac merge a.safetensors b.safetensors -o both.safetensors --format diffusers

Nothing is approximated: ranks add up, so the sum is about as large as the files together. To make it smaller:
  lorac resize pony.safetensors both.safetensors -r fro_ckpt=1,thr=-3.55
DoRA, OFT and GLoRA modules cannot be added to others; where only one file has them they stay, at the weight 1.`;

const inspectExamples = `
Examples:
  lorac inspect hero.safetensors                        what it is made of
  lorac inspect hero.safetensors --norms                and how strong each block is
  lorac inspect hero.safetensors pony.safetensors       … relative to the weights of its base
  lorac inspect before.safetensors after.safetensors    what differs

Norms are there at once where lorac has decomposed the file before; else they are measured, which may take seconds.
What DoRA, GLoRA and IA3 do depends on the weights that they change, and is measured only where the base is given.`;

const analyzeExamples = `
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

function exitCodeOf(error: unknown): number {
  // Commander has printed its message by now; --help and --version arrive here as well.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE;
  if (error instanceof UsageError) {
    // What was typed may be the name of somebody else's file.
    const hint = error.hint === undefined ? '' : `hint: ${cleanLine(error.hint)}\n`;
    process.stderr.write(`error: ${cleanLine(error.message)}\n${hint}`);
    return WRONG_USE;
  }
  const stack = error instanceof Error ? error.stack : String(error);
  process.stderr.write(
    `\nThis is our bug, not yours. Please report it with the lines below.\nlorac ${about.version}, Node ${process.versions.node}\n${stack}\n`,
  );
  return OUR_BUG;
}

/** Writes what is still on its way, then ends: a handle that someone forgot must not keep the process. */
async function end(): Promise<void> {
  await Promise.all(
    [process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write('', resolve))),
  );
  process.exit();
}

// A reader that went away, or a terminal that was closed, is no mistake. What has to stop then listens for itself.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (!['EPIPE', 'EIO', 'ECONNRESET'].includes(error.code ?? '')) throw error;
  });
}

try {
  await commandLine().parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}
await end();
