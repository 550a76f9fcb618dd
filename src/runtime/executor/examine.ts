// Decides for one node, once its inputs are known, whether its result is there already, and if not, why.
// Nothing is computed here; files of the user's are read only when the stat cache does not know them.

import { type Digest, parseDigest } from '../cache/digest.ts';
import { type Fingerprint, type FingerprintKey, fingerprintOf } from '../cache/fingerprint.ts';
import { type TargetState, targetState } from '../cache/place.ts';
import type { Entry, Store } from '../cache/store.ts';
import { StageFailure, type StaleReason } from '../events.ts';
import { type AbsolutePath, type GraphNode, type NodeId, targetOf } from '../graph/graph.ts';
import type { Survey } from '../stage.ts';
import { reasonFor } from './reasons.ts';

/** `base` is the fingerprint of the first generation. */
interface Identity {
  readonly key: FingerprintKey;
  readonly fingerprint: Fingerprint;
  readonly base: Fingerprint;
}

export type Examined = Identity &
  (
    | { readonly status: 'fresh'; readonly entry: Entry }
    /** The result is stored, but not where the user wants it. */
    | {
        readonly status: 'unplaced';
        readonly entry: Entry;
        readonly because: StaleReason;
        readonly target: TargetState;
      }
    /** `incomplete`: a result that can be served as far as it goes, and lacks outputs that are asked for. */
    | { readonly status: 'stale'; readonly because: StaleReason; readonly incomplete?: Entry }
  );

/** What the results of other nodes are. Lacks those that are not computed yet. */
export type Entries = ReadonlyMap<NodeId, Entry>;

export interface ExaminerOptions {
  readonly store: Store;
  /** Tells the histories of programs apart that share a store. */
  readonly program: string;
  /** Outputs that other nodes cannot do without. */
  readonly wanted: Wanted;
  /** The nodes whose work the user wants done once more. */
  readonly rerun: ReadonlySet<NodeId>;
  readonly signal: AbortSignal;
  readonly say: (message: string) => void;
}

/** By node: the outputs that others read, in the order they are first named. Optional ones are not among them. */
export type Wanted = ReadonlyMap<NodeId, ReadonlySet<string>>;

export function wantedOutputs(nodes: readonly GraphNode[]): Wanted {
  const wanted = new Map<NodeId, Set<string>>();
  for (const { node, output, optional } of nodes.flatMap(({ inputs }) => Object.values(inputs))) {
    if (optional) continue;
    const outputs = wanted.get(node) ?? new Set();
    wanted.set(node, outputs.add(output));
  }
  return wanted;
}

const BIG_FILE_BYTES = 512 * 1024 * 1024;
/** So often one hears how far the reading of a big file is. */
const SAY_EVERY_MS = 10_000;

export class Examiner {
  /** Where the images of all surveys lie. Fills as nodes are examined. */
  readonly imagePaths = new Map<Digest, AbsolutePath>();
  readonly #surveys = new Map<NodeId, Promise<Survey>>();
  /** What each file held when this run first looked: for the whole run it is that file, or the work on it fails. */
  readonly #digests = new Map<AbsolutePath, Digest>();
  readonly #options: ExaminerOptions;

  constructor(options: ExaminerOptions) {
    this.#options = options;
  }

  /**
   * Where a node stands. `deep` looks for members too: to be asked when somebody is about to use them.
   * Throws what a stage would throw when the files it names cannot be used.
   */
  async examine(node: GraphNode, entries: Entries, deep: boolean): Promise<Examined> {
    const { store, rerun } = this.#options;
    const first = await this.#firstKey(node, entries);
    const base = fingerprintOf(first);
    const isAskedFor = rerun.has(node.id);
    let generation = (store.generations.get(base) ?? 0) + (isAskedFor ? 1 : 0);
    for (;;) {
      const key = generation === 0 ? first : { ...first, generation };
      const identity = { key, base, fingerprint: generation === 0 ? base : fingerprintOf(key) };
      const found = await store.lookup(identity.fingerprint);
      if (found.status === 'found' && isAskedFor) {
        generation += 1;
        continue;
      }
      const lost = found.status === 'found' && deep ? lostOutput(store, found.entry) : undefined;
      if (found.status === 'found' && lost === undefined) {
        const [output] = this.lacking(node, found.entry);
        if (output === undefined) return this.#whetherPlaced(node, identity, found.entry);
        return {
          ...identity,
          status: 'stale',
          because: { kind: 'output-missing', output },
          incomplete: found.entry,
        };
      }
      if (isAskedFor) return { ...identity, status: 'stale', because: { kind: 'asked-for' } };
      const output = lost ?? (found.status === 'lost' ? found.output : undefined);
      return { ...identity, status: 'stale', because: await this.#because(node, identity, output) };
    }
  }

  /** The outputs that are asked for and that a stored result has not. */
  lacking(node: GraphNode, { outputs }: Entry): readonly string[] {
    return [...(this.#options.wanted.get(node.id) ?? [])].filter((output) => outputs[output] === undefined);
  }

  /**
   * Begins to read the files of nodes whose turn has not come, while others work: a checkpoint takes seconds.
   * What goes wrong is told when it is their turn.
   */
  readAhead(nodes: readonly GraphNode[]): void {
    for (const node of nodes)
      for (const path of Object.values(node.files)) this.#fileDigest(node, path).catch(() => {});
  }

  /** What the node found around it, looked up once in a run. */
  survey(node: GraphNode): Promise<Survey> | undefined {
    const { store, signal, say } = this.#options;
    if (node.stage.survey === undefined) return undefined;
    const known = this.#surveys.get(node.id);
    if (known) return known;
    const survey = node.stage.survey({ node, store, signal, say });
    this.#surveys.set(node.id, survey);
    return survey;
  }

  /** Throws unless these files still hold what this run knows them by. Reads one only when its times have changed. */
  async requireUnchanged(node: GraphNode, paths: readonly AbsolutePath[]): Promise<void> {
    for (const path of paths) {
      if (!this.#digests.has(path)) throw new Error(`Internal error: nobody has looked at "${path}" in this run.`);
      await this.#fileDigest(node, path);
    }
  }

  /** The key that the node's result had last time, in this program. */
  async previousKey(node: GraphNode): Promise<FingerprintKey | undefined> {
    const previous = this.#previousFingerprint(node);
    return previous && (await this.#options.store.readKey(previous));
  }

  /** What the node gave last time, in this program, as far as it is still stored. */
  async previousEntry(node: GraphNode): Promise<Entry | undefined> {
    const previous = this.#previousFingerprint(node);
    return previous && (await this.#options.store.lookupEntry(previous));
  }

  /** Makes what the node gave now what it gave last. */
  recordHistory(node: GraphNode, fingerprint: Fingerprint): void {
    if (this.#previousFingerprint(node) !== fingerprint) {
      this.#options.store.history.set(this.#historyKey(node), fingerprint);
    }
  }

  #previousFingerprint(node: GraphNode): Fingerprint | undefined {
    const digest = parseDigest(this.#options.store.history.get(this.#historyKey(node)));
    return digest as Fingerprint | undefined;
  }

  #historyKey(node: GraphNode): string {
    return `${this.#options.program}#${node.id}`;
  }

  async #firstKey(node: GraphNode, entries: Entries): Promise<FingerprintKey> {
    const inputs: { [role: string]: Digest } = {};
    for (const [role, path] of Object.entries(node.files)) inputs[role] = await this.#fileDigest(node, path);
    const survey = await this.survey(node);
    for (const { digest, path } of filesOf(survey)) {
      this.imagePaths.set(digest, path);
      this.#digests.set(path, digest);
    }
    Object.assign(inputs, survey?.digests);
    for (const [role, input] of Object.entries(node.inputs)) {
      const artifact = entries.get(input.node)?.outputs[input.output];
      if (artifact) inputs[role] = artifact.digest;
      else if (!input.optional) throw new Error(`Internal error: "${input.node}" gives no "${input.output}".`);
    }
    return { ...ownPart(node), inputs };
  }

  async #fileDigest(node: GraphNode, path: AbsolutePath): Promise<Digest> {
    const { store, signal, say } = this.#options;
    let saidMs = performance.now();
    const onRead = (doneBytes: number, sizeBytes: number) => {
      if (sizeBytes < BIG_FILE_BYTES || (doneBytes > 0 && performance.now() - saidMs < SAY_EVERY_MS)) return;
      saidMs = performance.now();
      const [done, size] = [doneBytes, sizeBytes].map((bytes) => (bytes / 1e9).toFixed(1));
      say(doneBytes === 0 ? `Reading "${path}" (${size} GB) once.` : `Reading "${path}": ${done} of ${size} GB.`);
    };
    try {
      const digest = await store.files.digestOf(path, { signal, onRead });
      if ((this.#digests.get(path) ?? digest) !== digest) throw changedFile(path, node);
      this.#digests.set(path, digest);
      return digest;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EISDIR') throw folderForFile(path, node);
      if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
      throw new StageFailure({
        kind: 'missing-file',
        message: `"${node.id}" needs the file "${path}", and there is no such file.`,
        hint: 'Check the path. Relative paths start at the folder of the program.',
      });
    }
  }

  async #whetherPlaced(node: GraphNode, identity: Identity, entry: Entry): Promise<Examined> {
    if (node.placement === undefined) return { ...identity, status: 'fresh', entry };
    const { output } = node.placement;
    const target = targetOf(node.placement, entry.record);
    const state = await targetState(this.#options.store, target, entry.outputs[output]);
    if (state === 'same') return { ...identity, status: 'fresh', entry };
    return { ...identity, status: 'unplaced', entry, because: { kind: 'not-placed', path: target }, target: state };
  }

  async #because(node: GraphNode, { fingerprint, key }: Identity, lost: string | undefined): Promise<StaleReason> {
    if (lost !== undefined) return { kind: 'result-lost', output: lost };
    // It was there, and now not even its entry is.
    if (this.#previousFingerprint(node) === fingerprint) return { kind: 'result-lost', output: 'result' };
    return reasonFor(node, key, await this.previousKey(node));
  }
}

function folderForFile(path: AbsolutePath, { id }: GraphNode): StageFailure {
  return new StageFailure({
    kind: 'bad-input',
    message: `"${path}" is a folder, and "${id}" needs a file.`,
    hint: 'Where it is the folder of a model, "lorac check" says what is missing in it.',
  });
}

/** Images, and the masks of those that have one. */
function filesOf(survey: Survey | undefined): readonly { readonly digest: Digest; readonly path: AbsolutePath }[] {
  return survey?.images.flatMap((image) => (image.mask === undefined ? image : [image, image.mask])) ?? [];
}

/** A file that is not what it was any more: what was made of it belongs to neither. */
function changedFile(path: AbsolutePath, { id }: GraphNode): StageFailure {
  return new StageFailure({
    kind: 'file-changing',
    message: `"${path}" was changed while it was used, so "${id}" has no result.`,
    hint: 'Build again to use the file as it is now. If it is put back as it was, work goes on from what is saved.',
  });
}

/** What a node's key holds apart from its inputs: known before anything is read or computed. */
export function ownPart({ stage, attributes }: GraphNode): Omit<FingerprintKey, 'inputs'> {
  const tools = stage.tools?.();
  return { stage: stage.name, revision: stage.revision, ...(tools ? { tools } : {}), attributes };
}

/** The first output of an entry that cannot be used because something that it names is not stored any more. */
export function lostOutput(store: Store, entry: Entry): string | undefined {
  if (entry.members.every((member) => store.hasBlob(member))) return undefined;
  return Object.keys(entry.outputs)[0];
}
