// What a program asks for, before anything runs. A graph never changes once built;
// what happens to its nodes during a run is told by events.

import { dirname, join } from 'node:path';
import type { Span } from '../../parser/source.ts';
import type { Stage } from '../stage.ts';
import type { Json } from './json.ts';

/** `raw` for a block's main node, `raw:latents` for its helpers. */
export type NodeId = string & { readonly __brand: 'NodeId' };

/** A path that does not depend on the current folder. Made by `absolutePath` only. */
export type AbsolutePath = string & { readonly __brand: 'AbsolutePath' };

/** One named output of another node. */
export interface NodeInput {
  readonly node: NodeId;
  readonly output: string;
  /** Whether the other node may lack this output. The role is then absent. */
  readonly optional?: boolean;
}

/** Where the user wants to have an output of a node. */
export interface Placement {
  readonly output: string;
  readonly target: AbsolutePath;
  /** Whether a file that lorac did not make may be replaced. */
  readonly overwrite: boolean;
  /** The file's name in the folder of `target`, where it depends on what the stage recorded about its work. */
  nameFrom?(record: { readonly [fact: string]: string | number }): string;
}

/** Where a result belongs, once it is there to be asked. */
export function targetOf({ target, nameFrom }: Placement, record: { readonly [fact: string]: string | number }) {
  return nameFrom === undefined ? target : (join(dirname(target), nameFrom(record)) as AbsolutePath);
}

/** One use of a stage. `origin` is the block that asked for it, so that a failure can point at it. */
export interface GraphNode {
  readonly id: NodeId;
  readonly origin: Span;
  readonly stage: Stage;
  /** What changes the result, defaults filled in: part of the fingerprint. */
  readonly attributes: { readonly [name: string]: Json };
  /** What changes only how the work is done or shown (paths, intervals): never part of the fingerprint. */
  readonly settings: { readonly [name: string]: Json };
  /** Files of the user's, by role. Their content digests are part of the fingerprint, their paths are not. */
  readonly files: { readonly [role: string]: AbsolutePath };
  /** Outputs of other nodes, by role. Their digests are part of the fingerprint. */
  readonly inputs: { readonly [role: string]: NodeInput };
  readonly placement?: Placement;
}

export interface Graph {
  /** The file of the program, which may itself have none of the blocks: they may be imported. */
  readonly program: string;
  /** Every node after the nodes that it depends on. */
  readonly nodes: readonly GraphNode[];
}
