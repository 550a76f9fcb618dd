// The two TOML files of sd-scripts: `--config_file` with flags by their names, and `--dataset_config` with folders of
// images. Which word goes before which: of an option, that of the subset, the dataset, [general], the command line, the
// configuration file, and the built-in default.

import { parseFile } from './parse-file.ts';
import { asBoolean, asText, isList, isRecord, type Plain, type PlainRecord } from './plain.ts';
import type { Left, Recipe, Subset, Surroundings, Unreadable } from './recipe.ts';
import { sdScriptsDefaults } from './sd-scripts-defaults.ts';

/** A TOML file by itself, of either kind. */
export function readToml(text: string, around: Surroundings): Recipe | Unreadable {
  const parsed = parseFile('TOML', text);
  if ('problem' in parsed) return parsed;
  const table = isRecord(parsed.value) ? parsed.value : {};
  const start = { trainer: 'sd-scripts', defaults: sdScriptsDefaults, left: [], resize: undefined, chop: undefined };
  if (isList(table.datasets)) {
    return { ...start, from: 'a dataset configuration of sd-scripts', options: new Map(), subsets: subsetsOf(table) };
  }
  const options = flatten(table);
  return withConfigFiles({ ...start, from: 'a configuration file of sd-scripts', options, subsets: [] }, around);
}

/** What `--config_file` and `--dataset_config` name, read and put in its place. */
export function withConfigFiles(recipe: Recipe, around: Surroundings): Recipe | Unreadable {
  const config = fileOf(recipe, 'config_file', around);
  if ('problem' in config) return config;
  const options = new Map([...flatten(config.table), ...recipe.options]);
  options.delete('config_file');
  const dataset = fileOf({ ...recipe, options }, 'dataset_config', around);
  if ('problem' in dataset) return dataset;
  options.delete('dataset_config');
  // Where there is a dataset configuration, sd-scripts does not read these.
  if (dataset.read) for (const name of ['train_data_dir', 'reg_data_dir', 'in_json']) options.delete(name);
  return {
    ...recipe,
    options,
    subsets: [...recipe.subsets, ...subsetsOf(dataset.table)],
    left: [...recipe.left, ...config.left, ...dataset.left],
  };
}

interface ReadFile {
  readonly table: PlainRecord;
  readonly read: boolean;
  readonly left: readonly Left[];
}

function fileOf(recipe: Recipe, name: 'config_file' | 'dataset_config', around: Surroundings): ReadFile | Unreadable {
  const written = asText(recipe.options.get(name));
  if (written === undefined || written === '') return { table: {}, read: false, left: [] };
  const path = /\.(toml|json)$/i.test(written) || name === 'dataset_config' ? written : `${written}.toml`;
  const text = around.readText(path);
  if (text === undefined) {
    const reason = 'There is no such file here. Import it as well: it holds settings that are not in this program.';
    return { table: {}, read: false, left: [{ name, value: written, reason }] };
  }
  const parsed = parseFile(/\.json$/i.test(path) ? 'JSON' : 'TOML', text);
  if ('problem' in parsed) return { ...parsed, problem: `${path}: ${parsed.problem}` };
  return { table: isRecord(parsed.value) ? parsed.value : {}, read: true, left: [] };
}

/** Sections mean nothing to sd-scripts. */
function flatten(table: PlainRecord): Map<string, Plain> {
  const options = new Map<string, Plain>();
  for (const [name, value] of Object.entries(table)) {
    if (isRecord(value)) for (const [inner, one] of Object.entries(value)) options.set(inner, one ?? null);
    else if (value !== undefined) options.set(name, value);
  }
  return options;
}

function subsetsOf(table: PlainRecord): readonly Subset[] {
  const general = isRecord(table.general) ? table.general : {};
  const datasets = isList(table.datasets) ? table.datasets.filter(isRecord) : [];
  return datasets.flatMap((dataset) => {
    const { subsets, ...own } = dataset;
    const folders = isList(subsets) ? subsets.filter(isRecord) : [];
    return folders.map((subset) => subsetOf({ ...general, ...own, ...subset }));
  });
}

function subsetOf({ image_dir, is_reg, ...rest }: PlainRecord): Subset {
  const renamed = Object.entries(rest).map(
    ([name, value]) => [name === 'batch_size' ? 'train_batch_size' : name, value ?? null] as const,
  );
  return { images: asText(image_dir) ?? '', isRegularization: asBoolean(is_reg) === true, options: new Map(renamed) };
}
