// A base as a stage finds it among its inputs: one file in the role `checkpoint`, or the files of a diffusers folder in
// the roles `checkpoint.unet`, `checkpoint.text_encoder` and `checkpoint.text_encoder_2`; a second file of one is
// `checkpoint.unet.2`.

import type { AbsolutePath } from '../graph/graph.ts';
import type { StageContext } from '../stage.ts';

/** Sorted by role, so that the order says nothing about where the files lie. */
export function checkpointFiles({ inputs }: StageContext): readonly AbsolutePath[] {
  const roles = Object.keys(inputs).filter((role) => role === 'checkpoint' || role.startsWith('checkpoint.'));
  return roles.sort().flatMap((role) => inputs[role]?.path ?? []);
}
