// One version of a text that an editor holds, and what is known about it. Each thing is found out when it is first asked
// for, and once: an editor asks ten questions about every version, and a text never changes under its version.

import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TextDocument } from 'vscode-languageserver-textdocument';
import {
  type Compiled,
  checkLinked,
  type ImportedFiles,
  type LinkedProgram,
  linkProgram,
  type Reading,
  readSource,
} from '../parser/check.ts';
import type { Environment } from '../parser/checking/environment.ts';
import { type Symbols, symbolsOf } from '../parser/editing/symbols.ts';
import type { SourceFile } from '../parser/source.ts';
import { rememberUri } from './positions.ts';

/** What a text's meaning depends on beside the text. */
export interface Surroundings {
  /** What its imports lead to, as that is now. */
  files(): ImportedFiles;
  readonly settings: { readonly environment: Environment };
}

/** As much as a build takes for a program. */
const LARGEST_CHARACTERS = 4 * 1024 * 1024;

export class OpenFile {
  readonly uri: string;
  readonly version: number;
  readonly source: SourceFile;
  /** Then it counts as empty: a checkpoint that is opened by mistake is not even read. */
  readonly isTooLarge: boolean;
  #reading: Reading | undefined;
  #linked: LinkedProgram | undefined;
  #symbols: Symbols | undefined;
  #compiled: Compiled | undefined;
  readonly #surroundings: Surroundings | undefined;

  constructor(document: Pick<TextDocument, 'uri' | 'version' | 'getText'>, surroundings?: Surroundings) {
    this.#surroundings = surroundings;
    this.uri = document.uri;
    this.version = document.version;
    const text = document.getText();
    this.isTooLarge = text.length > LARGEST_CHARACTERS;
    this.source = { path: pathOf(document.uri) ?? document.uri, text: this.isTooLarge ? '' : text };
    rememberUri(this.source, document.uri);
  }

  get text(): string {
    return this.source.text;
  }

  /** Where relative paths start; `undefined` for a text that is not a file yet. */
  get folder(): string | undefined {
    const path = pathOf(this.uri);
    return path === undefined ? undefined : dirname(path);
  }

  get reading(): Reading {
    this.#reading ??= readSource(this.source);
    return this.#reading;
  }

  /** Itself, and what it imports, as that was when somebody first asked. */
  get linked(): LinkedProgram {
    this.#linked ??= linkProgram(this.reading, this.#surroundings?.files());
    return this.#linked;
  }

  /** Whether another file is a part of it. */
  includes(path: string): boolean {
    return this.linked.modules.some(({ source }) => source.path === path);
  }

  get symbols(): Symbols {
    this.#symbols ??= symbolsOf(this.linked);
    return this.#symbols;
  }

  get compiled(): Compiled {
    this.#compiled ??= checkLinked(this.linked, { params: new Map(), ...this.#surroundings?.settings });
    return this.#compiled;
  }
}

/** The path of a file on this machine; editors also have texts that lie nowhere, or elsewhere. */
export function pathOf(uri: string): string | undefined {
  try {
    return fileURLToPath(uri);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}
