// From the text of another trainer's configuration to the text of a program. Pure: what lies on the disk is asked for.
// What kind of configuration it is, its content says: names of files say little, and pasted text has none.

import type { Draft } from './draft.ts';
import type { Recipe, Surroundings, Unreadable } from './recipe.ts';
import { looksLikeCommand, readCommand } from './sd-scripts-command.ts';
import { readToml } from './sd-scripts-files.ts';
import { settle } from './settle.ts';
import { translate } from './translate.ts';

export interface Imported {
  readonly program: string;
  readonly draft: Draft;
}

export function importText(text: string, around: Surroundings): Imported | Unreadable {
  const recipe = readRecipe(text.replace(/^\uFEFF/, ''), around);
  if ('problem' in recipe) return recipe;
  return settle(translate(recipe, around));
}

function readRecipe(text: string, around: Surroundings): Recipe | Unreadable {
  if (/\0/.test(text)) return { problem: 'This is no text.', hint: 'Give a command, or a TOML, JSON or YAML file.' };
  if (text.trim() === '')
    return { problem: 'There is nothing to import.', hint: 'Give the file of a configuration, or paste a command.' };
  if (looksLikeCommand(text)) return readCommand(text, around);
  return readToml(text, around);
}
