// A pasted command of sd-scripts, or the whole guide: training, resize_lora.py and chop_blocks.py.

import type { Plain } from './plain.ts';
import type { Left, Recipe, Surroundings, Unreadable } from './recipe.ts';
import { sdScriptsDefaults } from './sd-scripts-defaults.ts';
import { withConfigFiles } from './sd-scripts-files.ts';
import { readShell } from './shell-words.ts';

type Options = Map<string, Plain>;

const ours = /(?:^|[\\/])(?:sdxl_)?train_network\.py$/;
const others = /(?:^|[\\/])(\w*train\w*)\.py$/;
const accelerateOnly = 'An option of accelerate, which lorac does not use.';

/** Comments do not count: a TOML file may speak of flags. */
export function looksLikeCommand(text: string): boolean {
  const lines = text.split('\n').filter((line) => !/^\s*(?:#|::|rem\s)/i.test(line));
  return lines.some((line) => /(?:^|\s)--[a-z]\w+/.test(line) || /\.py(?:["']|\s|$)/.test(line));
}

export function readCommand(text: string, around: Surroundings): Recipe | Unreadable {
  const { commands, files, openQuote } = readShell(text);
  if (openQuote !== undefined) {
    return {
      problem: `A quote that opens on line ${openQuote} is never closed.`,
      hint: 'Copy the command again, from its first word to its last.',
    };
  }
  const training = commands.find(isTraining);
  if (training === undefined) {
    const other = commands.flat().find((word) => others.test(word));
    return other === undefined
      ? { problem: 'There is no command of sd-scripts in this text.', hint: 'It has sdxl_train_network.py in it.' }
      : {
          problem: `lorac trains LoRAs of SDXL, and ${nameOf(other)} trains something else.`,
          hint: 'Give a command with sdxl_train_network.py in it.',
        };
  }
  const { options, left } = readOptions(training);
  const after = afterwards(commands);
  const given = {
    from: 'a command of sd-scripts',
    trainer: 'sd-scripts',
    options,
    defaults: sdScriptsDefaults,
    subsets: [],
    left,
    ...after,
  };
  return withConfigFiles(given, { ...around, readText: (path) => files.get(path) ?? around.readText(path) });
}

function isTraining(words: readonly string[]): boolean {
  if (words.some((word) => ours.test(word))) return true;
  if (words.some((word) => /\.py$/.test(word))) return false;
  return words.some((word) =>
    /^--(pretrained_model_name_or_path|network_module|train_data_dir|config_file|dataset_config)(=|$)/.test(word),
  );
}

/** What stands before the script is accelerate's or the shell's. */
function readOptions(words: readonly string[]): { readonly options: Options; readonly left: readonly Left[] } {
  const script = words.findIndex((word) => ours.test(word));
  const starter = optionsOf(words.slice(0, Math.max(script, 0)));
  const processes = processesOf(starter);
  const left: Left[] = [...starter]
    .filter(([name]) => name !== 'num_processes' || processes === undefined)
    .map(([name, value]) => ({ name, value, reason: accelerateOnly, isHarmless: true }));
  if (script >= 0 && !/sdxl_train_network\.py$/.test(words[script] as string)) {
    const reason =
      'It trains Stable Diffusion 1 and 2; lorac trains SDXL alone, so the checkpoint has to be one of SDXL.';
    left.push({ name: nameOf(words[script] as string), value: '', reason });
  }
  const options = optionsOf(words.slice(script + 1));
  if (processes !== undefined) options.set('num_processes', processes);
  return { options, left };
}

/** Of accelerate, or of torchrun in its place; `undefined` for one. */
function processesOf(starter: Options): number | undefined {
  const count = Number(starter.get('num_processes') ?? starter.get('nproc_per_node'));
  return Number.isInteger(count) && count > 1 ? count : undefined;
}

/** `--name value`, `--name=value`, `--name` alone; of one that stands there twice, the last counts. */
export function optionsOf(words: readonly string[]): Options {
  const options: Options = new Map();
  let current: string | undefined;
  let values: string[] = [];
  const close = () => {
    if (current === undefined) return;
    options.delete(current);
    options.set(current, values.length === 0 ? true : values.length === 1 ? (values[0] as string) : values);
  };
  for (const word of words) {
    if (/^(?:\d?|&)>/.test(word)) break;
    const [, name, value] = /^--?([A-Za-z]\w*(?:-\w+)*)(?:=(.*))?$/s.exec(word) ?? [];
    if (name === undefined) {
      if (current !== undefined) values.push(word);
      continue;
    }
    close();
    current = name.replaceAll('-', '_');
    values = value === undefined ? [] : [value];
  }
  close();
  return options;
}

/** The recipe of a resize, and the vector of a chop, as the guide's other two commands have them. */
function afterwards(commands: readonly (readonly string[])[]): Pick<Recipe, 'resize' | 'chop'> {
  const resize = commands.find((words) => words.some((word) => /resize_lora\.py$/.test(word)));
  const at = resize?.findIndex((word) => /^(-r|--score_recipes?|--recipes?)$/.test(word)) ?? -1;
  const chop = commands.flatMap((words) =>
    words.some((word) => /chop_blocks\.py$/.test(word)) ? [words.at(-1) as string] : [],
  );
  return {
    resize: at < 0 ? undefined : resize?.[at + 1],
    chop: chop.find((word) => /^-?[\d.]+(?:,-?[\d.]+)+$/.test(word)),
  };
}

const nameOf = (path: string) => path.split(/[\\/]/).at(-1) as string;
