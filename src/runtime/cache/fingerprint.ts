// The fingerprint of a piece of work: SHA-256 over the canonical JSON (RFC 8785) of all that decides its result.
// Two nodes with one fingerprint would give one result, whatever they are called and wherever they lie.

import { hash } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { Json } from '../graph/json.ts';
import { type Digest, parseDigest } from './digest.ts';

/** 64 lower-case hexadecimal digits. */
export type Fingerprint = string & { readonly __brand: 'Fingerprint' };

/** Everything in a fingerprint. Paths, names, times, attempts and machines are missing on purpose. */
export interface FingerprintKey {
  /** Another kind of work gives another result. */
  readonly stage: string;
  /** Raised by us when the same inputs should give different bytes. */
  readonly revision: number;
  /** Versions of the packages whose arithmetic shows, as they are locked: another version may round differently. */
  readonly tools?: { readonly [tool: string]: string };
  /** The settings that change the result, defaults filled in, so that writing a default down changes nothing. */
  readonly attributes: { readonly [name: string]: Json };
  /**
   * What the work reads, by role: digests of files and of other nodes' outputs, never their fingerprints.
   * An upstream node that gives the same bytes again therefore stops the wave there.
   */
  readonly inputs: { readonly [role: string]: Digest };
  /** Raised when the user asks for the same work once more. Absent the first time. */
  readonly generation?: number;
}

/** The fingerprint of a key. Throws when an attribute is not a finite number, which the checker rules out. */
export function fingerprintOf(key: FingerprintKey): Fingerprint {
  return hash('sha256', `lorac/fingerprint/1\n${canonicalize(key)}`) as Fingerprint;
}

export function parseFingerprint(value: unknown): Fingerprint | undefined {
  return parseDigest(value) as Fingerprint | undefined;
}

/** A key that came through a door, or `undefined` when it is none. */
export function parseKey(value: unknown): FingerprintKey | undefined {
  if (!isRecord(value)) return undefined;
  const { stage, revision, tools, attributes, inputs, generation } = value;
  if (typeof stage !== 'string' || !Number.isSafeInteger(revision)) return undefined;
  if (tools !== undefined && !isRecord(tools)) return undefined;
  if (!isRecord(attributes) || !isRecord(inputs)) return undefined;
  if (!Object.values(inputs).every((digest) => parseDigest(digest) !== undefined)) return undefined;
  if (generation !== undefined && !Number.isSafeInteger(generation)) return undefined;
  return value as unknown as FingerprintKey;
}

export function isRecord(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
