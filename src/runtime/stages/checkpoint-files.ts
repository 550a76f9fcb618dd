// A base as a stage finds it among its inputs: one file in the role `checkpoint`, or the files of a diffusers folder in
// the roles of `graph/model-folder.ts`.

import { type Digest, digestOf } from '../cache/digest.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import { type BaseFiles, isRoleOf, type Part } from '../graph/model-folder.ts';
import type { StageContext } from '../stage.ts';
import type { ModelFiles } from '../worker/protocol.ts';

export interface Base {
  readonly files: BaseFiles;
  readonly paths: readonly AbsolutePath[];
  /** What it holds: the file's digest, or one of all digests by role. */
  readonly digest: Digest;
}

export function baseOf({ node, inputs }: Pick<StageContext, 'node' | 'inputs'>): Base {
  const found = roles(inputs).flatMap((role) => {
    const artifact = inputs[role];
    return artifact === undefined ? [] : [{ role, ...artifact }];
  });
  const [first] = found;
  if (first === undefined) throw new Error(`Internal error: "${node.id}" has no checkpoint.`);
  const digests = Object.fromEntries(found.map(({ role, digest }) => [role, digest]));
  return {
    files: Object.fromEntries(found.map(({ role, path }) => [role, path])),
    paths: found.map(({ path }) => path),
    digest: first.role === 'checkpoint' ? first.digest : digestOf(JSON.stringify(digests)),
  };
}

/** As a request names them. */
export function modelFiles(files: BaseFiles): ModelFiles {
  if (files.checkpoint !== undefined) return files.checkpoint;
  const of = (part: Part) => sortedRoles(files).flatMap((role) => (isRoleOf(part, role) ? (files[role] ?? []) : []));
  return {
    unet: of('unet'),
    text_encoder: of('text_encoder'),
    text_encoder_2: of('text_encoder_2'),
    vae: of('vae'),
    scheduler: files['checkpoint.scheduler'] ?? null,
  };
}

/** Sorted by role, so that the order says nothing about where the files lie. */
export function checkpointFiles({ inputs }: StageContext): readonly AbsolutePath[] {
  return roles(inputs).flatMap((role) => inputs[role]?.path ?? []);
}

function roles(inputs: { readonly [role: string]: unknown }): readonly string[] {
  return sortedRoles(inputs).filter((role) => role === 'checkpoint' || role.startsWith('checkpoint.'));
}

const sortedRoles = (record: { readonly [role: string]: unknown }) => Object.keys(record).sort();
