// One entry of the action cache: what a fingerprint gave. The file holds all parts of the fingerprint too,
// so that "why did this run again" is the difference of two files.

import type { AbsolutePath } from '../graph/graph.ts';
import type { Artifact } from '../stage.ts';
import { type Digest, digestOf, parseDigest } from './digest.ts';
import { type Fingerprint, type FingerprintKey, fingerprintOf, isRecord, parseKey } from './fingerprint.ts';

/** Facts about how something was computed, such as the device. Never part of a fingerprint. */
export type RunRecord = { readonly [fact: string]: string | number };

export interface Entry {
  readonly fingerprint: Fingerprint;
  readonly key: FingerprintKey;
  readonly outputs: { readonly [output: string]: Artifact };
  /** Blobs that the outputs name, and without which they are of no use. */
  readonly members: readonly Digest[];
  readonly record: RunRecord;
}

/** The text of an entry's file: JSON that begins with a checksum over what follows it. */
export function writeEntry(entry: Entry): string {
  const outputs = Object.fromEntries(
    Object.entries(entry.outputs).map(([name, { digest, sizeBytes }]) => [name, { digest, sizeBytes }]),
  );
  const { key, members, record } = entry;
  const body = JSON.stringify({ key, outputs, members, record }, null, 2);
  return `${headOf(body)}${body}${TAIL}`;
}

function headOf(body: string): string {
  return `{"version":1,"checksum":"${digestOf(body)}","entry":`;
}

const TAIL = '}\n';

/**
 * The entry in a file's text, or `undefined` when the text is damaged, or belongs to another fingerprint.
 * `pathOf` says where a blob lies; an entry names blobs by digest alone, so it cannot point elsewhere.
 */
export function readEntry(
  fingerprint: Fingerprint,
  text: string,
  pathOf: (digest: Digest) => AbsolutePath,
): Entry | undefined {
  const body = text.slice(headOf('').length, -TAIL.length);
  if (text !== `${headOf(body)}${body}${TAIL}`) return undefined;
  const content = parseJson(body);
  if (!isRecord(content)) return undefined;
  const key = parseKey(content.key);
  if (key === undefined || fingerprintOf(key) !== fingerprint) return undefined;
  const { outputs, members, record } = content;
  if (!isRecord(outputs) || !Array.isArray(members) || !isRecord(record)) return undefined;
  const artifacts = Object.entries(outputs).map(([name, value]) => [name, readArtifact(value, pathOf)] as const);
  if (artifacts.some(([, artifact]) => artifact === undefined)) return undefined;
  if (!members.every((member) => parseDigest(member) !== undefined)) return undefined;
  if (!Object.values(record).every((fact) => typeof fact === 'string' || typeof fact === 'number')) return undefined;
  return {
    fingerprint,
    key,
    outputs: Object.fromEntries(artifacts) as { readonly [output: string]: Artifact },
    members: members as readonly Digest[],
    record: record as RunRecord,
  };
}

function readArtifact(value: unknown, pathOf: (digest: Digest) => AbsolutePath): Artifact | undefined {
  if (!isRecord(value)) return undefined;
  const digest = parseDigest(value.digest);
  const sizeBytes = value.sizeBytes;
  if (digest === undefined || !Number.isSafeInteger(sizeBytes) || (sizeBytes as number) < 0) return undefined;
  return { digest, sizeBytes: sizeBytes as number, path: pathOf(digest) };
}

/** What a text says as JSON, or `undefined` when it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
