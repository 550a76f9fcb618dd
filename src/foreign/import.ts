// From the text of another trainer's configuration to the text of a program. Pure: what lies on the disk is asked for.
// What kind of configuration it is, its content says: names of files say little, and pasted text has none.

import { blockKinds } from '../parser/schema/schema.ts';
import { looksLikeAiToolkit, readAiToolkit } from './ai-toolkit.ts';
import type { Draft } from './draft.ts';
import { looksLikeKohyaGui, readKohyaGui } from './kohya-gui.ts';
import { looksLikeOneTrainer, readOneTrainer } from './onetrainer.ts';
import { parseFile } from './parse-file.ts';
import { isRecord, type PlainRecord } from './plain.ts';
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
  const start = text.trimStart()[0];
  if (start === '{') return readJson(text, around);
  if (looksLikeYaml(text)) return readYaml(text, around);
  if (looksLikeCommand(text)) return readCommand(text, around);
  if (looksLikeProgram(text))
    return { problem: 'This is a program of lorac already.', hint: 'Give it to lorac check, plan or build.' };
  return looksLikeToml(text) ? readToml(text, around) : ofNoTrainer;
}

function readJson(text: string, around: Surroundings): Recipe | Unreadable {
  const parsed = parseFile('JSON', text);
  if ('problem' in parsed) return parsed;
  return readTable(isRecord(parsed.value) ? parsed.value : {}, around);
}

function readYaml(text: string, around: Surroundings): Recipe | Unreadable {
  const parsed = parseFile('YAML', text);
  if ('problem' in parsed) return parsed;
  return readTable(isRecord(parsed.value) ? parsed.value : {}, around);
}

/** Whose it is, its keys say. */
function readTable(table: PlainRecord, around: Surroundings): Recipe | Unreadable {
  if (looksLikeAiToolkit(table)) return readAiToolkit(table);
  if (looksLikeOneTrainer(table)) return readOneTrainer(table, around);
  if (looksLikeKohyaGui(table)) return readKohyaGui(table);
  return ofNoTrainer;
}

const ofNoTrainer: Unreadable = {
  problem: 'This is a configuration of no trainer that lorac knows.',
  hint: 'It knows sd-scripts (a command, or TOML), the kohya_ss GUI, OneTrainer (JSON) and ai-toolkit (YAML).',
};

/** A name and a colon at the beginning of a line, before any name and equals sign. */
const looksLikeYaml = (text: string) =>
  /^(?:---|["']?[\w-]+["']?:(?:\s|$))/m.test(text) && !/^\s*[\w-]+\s*=/m.test(text);

/** A setting or the heading of a table somewhere. */
const looksLikeToml = (text: string) => /^\s*(?:["']?[\w.-]+["']?\s*=|\[)/m.test(text);

/** The first line of a block. */
const looksLikeProgram = (text: string) =>
  new RegExp(`^\\s*(?:${blockKinds.join('|')})\\s+\\S[^{=]*\\{`, 'm').test(text);
