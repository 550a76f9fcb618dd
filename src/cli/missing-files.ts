// Whether the files that a program names are there. Looks at names alone; what is in them is for the build.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Diagnostic } from '../parser/diagnostics/diagnostics.ts';
import { nearest } from '../parser/diagnostics/suggest.ts';
import type { CheckedProgram, ProgramPath } from '../parser/model.ts';
import type { Span } from '../parser/source.ts';
import { BrokenFolder, modelFolderAt, wholeModel } from '../runtime/graph/model-folder.ts';
import { type Places, resolvePath } from '../runtime/graph/paths.ts';

export function missingFiles(program: CheckedProgram, places: Places): Diagnostic[] {
  return program.blocks
    .flatMap((block): (Diagnostic | undefined)[] => {
      switch (block.kind) {
        case 'checkpoint':
          return [missingBase(block.attributes.path, block.attributeSpans.path ?? block.span, places)];
        case 'lora':
          return [missing('file', block.attributes.path, block.attributeSpans.path ?? block.span, places)];
        case 'preview':
        case 'analyze': {
          const { prompts } = block.attributes;
          const span = block.attributeSpans.prompts ?? block.span;
          return [prompts === undefined ? undefined : missing('file', prompts, span, places)];
        }
        case 'run': {
          const span = block.attributeSpans.inputs ?? block.span;
          return Object.values(block.attributes.inputs ?? {}).map((input) =>
            'text' in input ? missing('file', input, span, places) : undefined,
          );
        }
        case 'dataset': {
          const { masks } = block.attributes;
          const span = block.attributeSpans.masks ?? block.span;
          const folder = masks === undefined ? undefined : missing('folder', masks, span, places);
          const images = [block.attributes.images].flat().map((images) => {
            const span = block.attributeSpans.images ?? block.span;
            const { text } = images;
            const fixed = withoutPattern(text);
            return missing(fixed === text ? 'file or folder' : 'folder', { ...images, text: fixed }, span, places);
          });
          return [...images, folder];
        }
        case 'train': {
          const { sample } = block.attributes;
          const span = block.attributeSpans.sample ?? block.span;
          return [sample === undefined ? undefined : missing('file', sample.prompts, span, places)];
        }
        default:
          return [];
      }
    })
    .filter((diagnostic) => diagnostic !== undefined)
    .filter(isFirst);
}

/** The variants of a block read the same files. */
function isFirst({ message, span }: Diagnostic, index: number, all: readonly Diagnostic[]): boolean {
  const same = (other: Diagnostic) => other.message === message && other.span.start === span.start;
  return all.findIndex((other) => same(other) && other.span.source === span.source) === index;
}

/** The part of a pattern before its first special character, as a folder. */
function withoutPattern(pattern: string): string {
  const special = pattern.search(/[*?{}[\]()!+@]/);
  return special < 0 ? pattern : dirname(`${pattern.slice(0, special)}x`);
}

function missingBase(written: ProgramPath, span: Span, places: Places): Diagnostic | undefined {
  const path = resolvePath(written, places);
  const folder = existsSync(path) ? modelFolderAt(path) : undefined;
  if (folder === undefined) return orModelFolder(missing('file', written, span, places));
  try {
    wholeModel(folder);
    return undefined;
  } catch (error) {
    if (!(error instanceof BrokenFolder)) throw error;
    const { message, hint } = error;
    return { code: 'broken-folder', severity: 'error', message, span, related: [], hint, fix: undefined };
  }
}

/** A folder that holds no model, where one that does would be as good as a file. */
function orModelFolder(wrong: Diagnostic | undefined): Diagnostic | undefined {
  if (wrong?.code !== 'folder-for-file' || wrong.hint !== undefined) return wrong;
  const hint = 'Name the .safetensors file, or the folder of a diffusers model, with "unet" and "vae" right in it.';
  return { ...wrong, hint };
}

function missing(what: string, written: ProgramPath, span: Span, places: Places): Diagnostic | undefined {
  const path = resolvePath(written, places);
  if (existsSync(path)) return what === 'file' && isFolder(path) ? folderForFile(path, written.text, span) : undefined;
  const found = existing(dirname(path));
  return {
    code: 'missing-file',
    severity: 'error',
    message: `There is no ${what} "${path}".`,
    span,
    related: [],
    hint:
      found === dirname(path)
        ? similarIn(found, basename(path))
        : `Of that path, "${found}" exists. Relative paths start at the folder of the .lora file.`,
    fix: undefined,
  };
}

/** PEFT saves folders, with the file that is meant in them. */
function folderForFile(path: string, written: string, span: Span): Diagnostic {
  const [only, ...others] = namesIn(path).filter((name) => name.endsWith('.safetensors'));
  const isOne = only !== undefined && others.length === 0;
  return {
    code: 'folder-for-file',
    severity: 'error',
    message: `"${path}" is a folder, and a file is needed.`,
    span,
    related: [],
    hint: isOne ? `Write "${written.replace(/[\\/]+$/, '')}/${only}"` : undefined,
    fix: undefined,
  };
}

function similarIn(folder: string, name: string): string | undefined {
  const similar = nearest(name, namesIn(folder));
  return similar === undefined ? undefined : `That folder has one with a similar name: "${similar}"`;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    // A folder that may be entered and not listed.
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return [];
    throw error;
  }
}

function existing(folder: string): string {
  return isFolder(folder) ? folder : existing(dirname(folder));
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
