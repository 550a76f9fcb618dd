// SDXL checkpoints in the places where people keep them: told by what their headers say, never by their names.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { StageFailure } from '../../runtime/events.ts';
import type { AbsolutePath } from '../../runtime/graph/graph.ts';
import { modelFolderAt } from '../../runtime/graph/model-folder.ts';
import { absolutePath } from '../../runtime/graph/paths.ts';
import { openModel } from '../../runtime/model/model-tensors.ts';
import { NotSdxl } from '../../runtime/sdxl/architecture.ts';

export interface FoundModel {
  readonly path: AbsolutePath;
  readonly sizeBytes: number;
}

export interface WhereToLook {
  /** Where the images are, and where the program goes. */
  readonly folders: readonly AbsolutePath[];
  readonly home: AbsolutePath;
  /** LORAC_MODELS: folders, as PATH has them. */
  readonly named: string | undefined;
}

/** Below each place: where ComfyUI, the web UIs and people themselves put checkpoints. */
const usual = [
  'models',
  'models/checkpoints',
  'models/Stable-diffusion',
  'checkpoints',
  'ComfyUI/models/checkpoints',
  'ComfyUI_windows_portable/ComfyUI/models/checkpoints',
  'stable-diffusion-webui/models/Stable-diffusion',
  'stable-diffusion-webui-forge/models/Stable-diffusion',
  'stable-diffusion-webui-reForge/models/Stable-diffusion',
  'webui/models/Stable-diffusion',
  'webui_forge/webui/models/Stable-diffusion',
];

/** Headers of so many files are read, the nearest first. */
const MOST_FILES = 200;
const LEVELS_UP = 3;

/** The nearest first; in one folder, by name. */
export async function findModels(where: WhereToLook): Promise<readonly FoundModel[]> {
  const files = new Set(placesToLook(where).flatMap((place) => checkpointsIn(place)));
  const found: FoundModel[] = [];
  for (const path of [...files].slice(0, MOST_FILES)) {
    if (await isSdxl(path)) found.push({ path, sizeBytes: statSync(path).size });
  }
  return found;
}

function placesToLook({ folders, home, named }: WhereToLook): readonly Place[] {
  const own = (named ?? '')
    .split(delimiter)
    .filter((path) => path !== '')
    .map((path) => ({ path, isDeep: true }));
  const near = folders.flatMap((folder) => upFrom(folder)).filter((path) => path !== dirname(path));
  const roots = [...new Set([...near, home])];
  const below = roots.flatMap((root) => [
    { path: root, isDeep: false },
    ...usual.map((path) => ({ path: join(root, path), isDeep: true })),
  ]);
  return [...own, ...below].filter(({ path }) => existsSync(path));
}

interface Place {
  readonly path: string;
  /** Whether folders in it count as well: people sort models by kind. */
  readonly isDeep: boolean;
}

function upFrom(folder: AbsolutePath): readonly string[] {
  const folders: string[] = [folder];
  for (let up = 0; up < LEVELS_UP; up += 1) folders.push(dirname(folders.at(-1) as string));
  return folders;
}

function checkpointsIn({ path, isDeep }: Place): AbsolutePath[] {
  let entries: readonly { readonly name: string }[];
  try {
    entries = readdirSync(path, { withFileTypes: true });
  } catch (error) {
    // A place that may not be looked into holds nothing for us.
    if (['EACCES', 'EPERM', 'ENOTDIR', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
  const names = entries
    .map(({ name }) => name)
    .filter((name) => !name.startsWith('.'))
    .sort();
  return names.flatMap((name) => {
    const inside = join(path, name);
    const facts = statSync(inside, { throwIfNoEntry: false });
    if (facts?.isFile() && /\.safetensors$/i.test(name)) return [absolutePath(inside)];
    const goesOn = isDeep && facts?.isDirectory() && modelFolderAt(absolutePath(inside)) === undefined;
    return goesOn ? checkpointsIn({ path: inside, isDeep: false }) : [];
  });
}

/** Only the header is read. */
async function isSdxl(path: AbsolutePath): Promise<boolean> {
  try {
    await using model = await openModel({ checkpoint: path });
    await model.architecture();
    return true;
  } catch (error) {
    if (error instanceof NotSdxl || error instanceof StageFailure) return false;
    throw error;
  }
}
