// The front door: reads argv and env, and sets the exit code. Nobody else does.
// Each command is imported when it is asked for, so that `lorac --version` reads next to nothing.
//
// Exit codes: 0 done · 1 a stage failed, or lorac itself · 2 the program or the command line is wrong · 130 interrupted.

import { Command, CommanderError, Option } from 'commander';
import about from '../package.json' with { type: 'json' };
import {
  analyzeExamples,
  buildExamples,
  chopExamples,
  examples,
  exportExamples,
  fmtExamples,
  importExamples,
  initExamples,
  inspectExamples,
  joinExamples,
  lintExamples,
  mergeExamples,
  presetsExamples,
  resizeExamples,
} from './cli/examples.ts';
import { UsageError } from './cli/usage-error.ts';
import { cleanLine, cleanLines } from './parser/clean-text.ts';
import { LORA_FORMATS } from './parser/lora-formats.ts';
import { reporterKinds } from './tui/reporter.ts';

const WRONG_USE = 2;
const OUR_BUG = 1;

const THE_FILE = 'the .lora file; may be left out when the folder has exactly one';

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
    .argument('[FILE]', THE_FILE)
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
    .argument('[FILE]', THE_FILE)
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
    .argument('[FILE]', THE_FILE)
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
    .argument('[FILE]', THE_FILE)
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
    .argument('[FILE]', THE_FILE)
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
    .command('join')
    .description('take part with this machine in a training that another one builds, with launch = torchrun')
    .argument('<HOST:PORT>', 'where the machines meet: rendezvous in the program')
    .option('--processes <N>', 'how many to start here (default: one for each GPU)')
    .option('--once', 'end after one training')
    .addHelpText('after', joinExamples)
    .action(async (rendezvous: string, options) => {
      const { join } = await import('./cli/join.ts');
      process.exitCode = await join({ rendezvous, ...options });
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
