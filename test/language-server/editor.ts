// An editor for tests: starts `lorac lsp` as VS Code's client does, and speaks the protocol over its standard streams.

import { type ChildProcess, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  createProtocolConnection,
  type Diagnostic,
  DidChangeTextDocumentNotification,
  DidOpenTextDocumentNotification,
  ExitNotification,
  InitializedNotification,
  InitializeRequest,
  type InitializeResult,
  type Position,
  type ProtocolConnection,
  PublishDiagnosticsNotification,
  type PublishDiagnosticsParams,
  type Range,
  ShutdownRequest,
  StreamMessageReader,
  StreamMessageWriter,
  type TextDocumentContentChangeEvent,
} from 'vscode-languageserver/node';
import { TextDocument } from 'vscode-languageserver-textdocument';
import { capabilities } from './vscode-capabilities.ts';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');

export function startServer(env: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, [lorac, 'lsp', '--stdio'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, LORAC_STORE: '', LORAC_PYTHON: '/nonexistent/python', ...env },
  });
}

export interface Editor extends AsyncDisposable {
  readonly connection: ProtocolConnection;
  readonly about: InitializeResult;
  readonly process: ChildProcess;
  /** Requests that the server made of the editor, by method. */
  readonly asked: readonly string[];
  open(path: string, text: string): OpenText;
}

/** A text in the editor. Every edit is sent as VS Code sends it: the range that changed and what stands there now. */
export interface OpenText {
  readonly uri: string;
  readonly text: string;
  readonly version: number;
  /** Gives the version that the edit makes. */
  replace(old: string, by: string): number;
  edit(range: Range, text: string): number;
  /** The place of a piece of text; `|` in it marks where the cursor stands. */
  at(marked: string): Position;
  /** What the server says about a version, waiting for it if need be. */
  diagnostics(version?: number): Promise<readonly Diagnostic[]>;
}

export async function openEditor(folder: string, initializationOptions: object = {}): Promise<Editor> {
  const process = startServer();
  if (process.stdout === null || process.stdin === null) throw new Error('no streams');
  // What a server says as it breaks belongs to the test's own output.
  process.stderr?.pipe(globalThis.process.stderr);
  const connection = createProtocolConnection(
    new StreamMessageReader(process.stdout),
    new StreamMessageWriter(process.stdin),
  );
  const published = new Map<string, PublishDiagnosticsParams>();
  const waiting = new Set<() => void>();
  connection.onNotification(PublishDiagnosticsNotification.type, (params) => {
    published.set(params.uri, params);
    for (const wake of waiting) wake();
  });
  const asked: string[] = [];
  for (const method of ['workspace/codeLens/refresh', 'workspace/inlayHint/refresh']) {
    connection.onRequest(method, () => {
      asked.push(method);
      return null;
    });
  }
  connection.listen();
  const about = await connection.sendRequest(InitializeRequest.type, {
    processId: globalThis.process.pid,
    clientInfo: { name: 'Visual Studio Code', version: '1.140.0' },
    locale: 'en',
    rootPath: folder,
    rootUri: pathToFileURL(folder).href,
    workspaceFolders: [{ uri: pathToFileURL(folder).href, name: 'project' }],
    trace: 'off',
    capabilities,
    initializationOptions,
  });
  await connection.sendNotification(InitializedNotification.type, {});

  const diagnosticsFor = (uri: string, version: number) =>
    new Promise<readonly Diagnostic[]>((done) => {
      const look = () => {
        const found = published.get(uri);
        if (found?.version !== version) return;
        waiting.delete(look);
        done(found.diagnostics);
      };
      waiting.add(look);
      look();
    });

  return {
    connection,
    about,
    process,
    asked,
    open(path, text) {
      const uri = pathToFileURL(resolve(folder, path)).href;
      const document = TextDocument.create(uri, 'lora', 1, text);
      connection.sendNotification(DidOpenTextDocumentNotification.type, {
        textDocument: { uri, languageId: 'lora', version: 1, text },
      });
      return openText(document, connection, (version) => diagnosticsFor(uri, version));
    },
    async [Symbol.asyncDispose]() {
      const ended = new Promise((done) => process.once('exit', done));
      await connection.sendRequest(ShutdownRequest.type);
      await connection.sendNotification(ExitNotification.type);
      await ended;
      connection.dispose();
    },
  };
}

function openText(
  document: TextDocument,
  connection: ProtocolConnection,
  diagnosticsOf: (version: number) => Promise<readonly Diagnostic[]>,
): OpenText {
  const edit = (range: Range, text: string) => {
    const change: TextDocumentContentChangeEvent = {
      range,
      rangeLength: document.offsetAt(range.end) - document.offsetAt(range.start),
      text,
    };
    const version = document.version + 1;
    TextDocument.update(document, [change], version);
    connection.sendNotification(DidChangeTextDocumentNotification.type, {
      textDocument: { uri: document.uri, version },
      contentChanges: [change],
    });
    return version;
  };
  return {
    uri: document.uri,
    get text() {
      return document.getText();
    },
    get version() {
      return document.version;
    },
    edit,
    replace(old, by) {
      const start = document.getText().indexOf(old);
      if (start < 0) throw new Error(`The text has no "${old}".`);
      return edit({ start: document.positionAt(start), end: document.positionAt(start + old.length) }, by);
    },
    at(marked) {
      const cursor = marked.indexOf('|');
      const start = document.getText().indexOf(marked.replace('|', ''));
      if (start < 0) throw new Error(`The text has no "${marked}".`);
      return document.positionAt(start + Math.max(cursor, 0));
    },
    diagnostics: (version = document.version) => diagnosticsOf(version),
  };
}
