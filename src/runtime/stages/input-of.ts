// What a stage reads, by the role that the graph gave it.

import type { Artifact, StageContext } from '../stage.ts';

/** An input that the graph always gives this stage. */
export function inputOf({ node, inputs }: Pick<StageContext, 'node' | 'inputs'>, role: string): Artifact {
  const artifact = inputs[role];
  if (artifact === undefined) throw new Error(`Internal error: "${node.id}" lacks its input "${role}".`);
  return artifact;
}
