// Files that a program names. In the folder of the examples lie pony.safetensors, images/fox.png, prompts.txt, and
// in half/ the beginning of a diffusers model.

import { type Explanations, trainWith } from './explanation.ts';

export const files: Explanations = {
  'broken-folder': {
    means: `A checkpoint may be a folder, as diffusers has it, and then each of its parts has to be there: model_index.json,
and a folder for the UNet, for each text encoder and for the VAE. Something in this one is missing or unreadable, most
likely because a download was cut short.`,
    wrong: `checkpoint pony { path = "half" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
  'folder-for-file': {
    means: `The path leads to a folder, and one file is needed: name the file in it.`,
    wrong: trainWith('sample = { prompts = "images" }'),
    right: trainWith('sample = { prompts = "prompts.txt" }'),
  },
  'missing-file': {
    means: `There is nothing at this path. Paths are taken from the folder of the program, not from where lorac is started;
"~" is your home folder. lorac check --no-files leaves files out.`,
    wrong: `checkpoint pony { path = "models/pony.safetensors" }`,
    right: `checkpoint pony { path = "pony.safetensors" }`,
  },
};
