// `lorac lsp`: the language in an editor, over standard input and output.
//
// - Every version of a text is read once, and checked once (see open-file.ts).
// - Diagnostics follow an edit at once; while edits follow each other, after a rest as long as the last check took, so
//   that fast typing in a long file is never behind. Those of a version that is over are not sent any more.
// - What needs the store (lenses, hints) reads what is there, and runs, locks and writes nothing.
// - Before "initialize" and after "shutdown" every request is refused; about texts that are not open there is nothing to say.

import {
  CodeActionKind,
  CodeLensRefreshRequest,
  type Connection,
  createConnection,
  ErrorCodes,
  type InitializeParams,
  type InitializeResult,
  InlayHintRefreshRequest,
  MessageType,
  ResponseError,
  ShowMessageNotification,
  type ShowMessageParams,
  StreamMessageReader,
  StreamMessageWriter,
  TextDocumentSyncKind,
  TextDocuments,
} from 'vscode-languageserver/node';
import { TextDocument } from 'vscode-languageserver-textdocument';
import type { Diagnostic } from '../parser/diagnostics/diagnostics.ts';
import type { CheckedProgram } from '../parser/model.ts';
import type { SourceFile } from '../parser/source.ts';
import { actionsFor, FIX_ALL } from './actions.ts';
import { completionsAt } from './completion.ts';
import { mistakesOfImports, shownDiagnostic, tooLarge } from './diagnostics.ts';
import { formattingOf } from './formatting.ts';
import { hoverAt } from './hover.ts';
import { hintsOf, lensesOf, WHY, writtenName } from './lenses.ts';
import { definitionOf, referencesTo, renamable, rename } from './navigation.ts';
import { OpenFile, type Surroundings } from './open-file.ts';
import { foldsOf, outlineOf } from './outline.ts';
import { offsetAt } from './positions.ts';
import { programsBeside } from './programs.ts';
import type { Project } from './project.ts';
import { legend, semanticTokensOf } from './semantic-tokens.ts';
import { type States, statesOf, storeMark } from './states.ts';

export interface ServerOptions {
  readonly input: NodeJS.ReadableStream;
  readonly output: NodeJS.WritableStream;
  readonly version: string;
  readonly project: Project;
}

/**
 * Listens until the input ends, and gives the exit code that the protocol asks for then: 1 where nobody said "shutdown".
 * Where the editor says "exit", the process ends at once.
 */
export function serve({ input, output, version, project }: ServerOptions): Promise<number> {
  const connection = createConnection(new StreamMessageReader(input), new StreamMessageWriter(output));
  const server = new Server(connection, project, version);
  server.listen();
  return new Promise((resolve) => {
    const end = () => resolve(server.isShutDown ? 0 : 1);
    input.once('end', end);
    input.once('close', end);
  });
}

/** Long enough for the request that an editor sends right behind an edit, which someone is waiting for. */
const SHORTEST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 100;
/** So often the store is asked whether a build has changed it. */
const STORE_EVERY_MS = 2_000;

/** What is kept about a text beside its versions. */
interface Kept {
  file: OpenFile;
  /** Of the last version without mistakes. */
  program: CheckedProgram | undefined;
  states: { readonly of: CheckedProgram; readonly mark: string; readonly states: Promise<States> } | undefined;
  pause: NodeJS.Timeout | undefined;
  checkMs: number;
  checkedAt: number;
}

class Server {
  isShutDown = false;
  readonly #surroundings: Surroundings;
  readonly #connection: Connection;
  readonly #project: Project;
  readonly #version: string;
  readonly #documents = new TextDocuments(TextDocument);
  readonly #kept = new Map<string, Kept>();
  #client: InitializeParams | undefined;

  constructor(connection: Connection, project: Project, version: string) {
    this.#connection = connection;
    this.#project = project;
    this.#surroundings = {
      // What is open, in the place of what lies on the disk.
      files: () => project.files((path) => this.#sourceOf(path)),
      settings: { environment: project.environment },
    };
    this.#version = version;
  }

  listen(): void {
    const connection = this.#connection;
    connection.onInitialize((params) => this.#initialize(params));
    connection.onShutdown(() => {
      this.isShutDown = true;
    });
    this.#answerAboutPlaces();
    this.#answerAboutFiles();
    this.#answerAboutTheStore();
    this.#documents.onDidChangeContent(({ document }) => this.#changed(document));
    this.#documents.onDidSave(({ document }) => this.#changed(document));
    this.#documents.onDidClose(({ document }) => this.#closed(document));
    this.#documents.listen(connection);
    setInterval(() => this.#watchStores(), STORE_EVERY_MS).unref();
    connection.listen();
  }

  #initialize(params: InitializeParams): InitializeResult {
    this.#client = params;
    // The parser is built when it is first used: better now than at the first edit.
    new OpenFile(TextDocument.create('untitled:', 'lora', 0, 'let warm = 1')).compiled;
    return {
      serverInfo: { name: 'lorac', version: this.#version },
      capabilities: {
        textDocumentSync: { openClose: true, change: TextDocumentSyncKind.Incremental, save: true },
        completionProvider: { triggerCharacters: ['=', '@', '{', '['] },
        hoverProvider: true,
        definitionProvider: true,
        referencesProvider: true,
        documentHighlightProvider: true,
        renameProvider: { prepareProvider: true },
        documentSymbolProvider: true,
        foldingRangeProvider: true,
        documentFormattingProvider: true,
        semanticTokensProvider: { legend, full: true, range: true },
        codeActionProvider: { codeActionKinds: [CodeActionKind.QuickFix, FIX_ALL] },
        inlayHintProvider: true,
        codeLensProvider: {},
        executeCommandProvider: { commands: [WHY] },
      },
    };
  }

  #answerAboutPlaces(): void {
    const connection = this.#connection;
    connection.onCompletion((params) => {
      const snippets = this.#client?.capabilities.textDocument?.completion?.completionItem?.snippetSupport ?? false;
      return this.#at(params, (file, offset) => completionsAt(file, offset, snippets));
    });
    connection.onHover((params) =>
      this.#at(params, (file, offset) => {
        const context = { file, program: this.#programOf(file), project: this.#project };
        return hoverAt({ ...context, diagnostics: this.#diagnosticsOf(file) }, offset);
      }),
    );
    connection.onDefinition((params) => this.#at(params, definitionOf));
    connection.onReferences((params) =>
      this.#at(params, (file, offset) => {
        const programs = this.#programsAround(file);
        return referencesTo(file, offset, { programs, withDefinition: params.context.includeDeclaration });
      }),
    );
    connection.onDocumentHighlight((params) =>
      this.#at(params, (file, offset) =>
        referencesTo(file, offset, { programs: [file], withDefinition: true })
          .filter(({ uri }) => uri === file.uri)
          .map(({ range }) => ({ range })),
      ),
    );
    connection.onPrepareRename((params) => this.#at(params, renamable));
    connection.onRenameRequest((params) =>
      this.#at(params, (file, offset) =>
        rename(file, offset, { programs: this.#programsAround(file), name: params.newName }),
      ),
    );
  }

  #answerAboutFiles(): void {
    const connection = this.#connection;
    connection.onDocumentSymbol((params) => this.#about(params, outlineOf));
    connection.onDocumentFormatting((params) => this.#about(params, formattingOf));
    connection.onFoldingRanges((params) => this.#about(params, foldsOf));
    connection.onCodeAction((params) =>
      this.#about(params, (file) => actionsFor(file, this.#diagnosticsOf(file), params)),
    );
    connection.languages.semanticTokens.on(
      (params) => this.#about(params, (file) => semanticTokensOf(file)) ?? { data: [] },
    );
    connection.languages.semanticTokens.onRange((params) => {
      const { start, end } = params.range;
      const tokens = this.#about(params, (file) =>
        semanticTokensOf(file, offsetAt(file.source, start), offsetAt(file.source, end)),
      );
      return tokens ?? { data: [] };
    });
  }

  #answerAboutTheStore(): void {
    const connection = this.#connection;
    connection.onCodeLens(async (params) => {
      const file = this.#about(params, (one) => one);
      const states = file && (await this.#statesOf(file));
      return file && states ? lensesOf(file, states, this.#clientCommands()) : null;
    });
    connection.languages.inlayHint.on(async (params) => {
      const file = this.#about(params, (one) => one);
      if (file === null) return null;
      const states = await this.#statesOf(file);
      const from = offsetAt(file.source, params.range.start);
      const to = offsetAt(file.source, params.range.end);
      return hintsOf(file, this.#programOf(file)?.blocks ?? [], states).filter(({ position }) => {
        const offset = offsetAt(file.source, position);
        return offset >= from && offset <= to;
      });
    });
    connection.onExecuteCommand(async ({ command, arguments: given = [] }) => {
      this.#requireSession();
      const [uri, name] = given as readonly unknown[];
      const kept = typeof uri === 'string' ? this.#kept.get(uri) : undefined;
      if (command !== WHY || kept === undefined) return null;
      const states = await this.#statesOf(kept.file);
      const why = [...(states?.values() ?? [])]
        .filter(({ block }) => writtenName(block) === name)
        .flatMap((one) => one.why);
      const message: ShowMessageParams = { type: MessageType.Info, message: why.join('\n') };
      if (why.length > 0) connection.sendNotification(ShowMessageNotification.type, message);
      return why;
    });
  }

  #at<Answer>(
    { textDocument, position }: { textDocument: { uri: string }; position: { line: number; character: number } },
    answer: (file: OpenFile, offset: number) => Answer,
  ): Answer | null {
    return this.#about({ textDocument }, (file) => answer(file, offsetAt(file.source, position)));
  }

  #about<Answer>(
    { textDocument }: { textDocument: { uri: string } },
    answer: (file: OpenFile) => Answer,
  ): Answer | null {
    this.#requireSession();
    const document = this.#documents.get(textDocument.uri);
    return document === undefined ? null : answer(this.#fileOf(document));
  }

  #requireSession(): void {
    if (this.#client === undefined) {
      throw new ResponseError(ErrorCodes.ServerNotInitialized, 'The first request has to be "initialize".');
    }
    if (this.isShutDown) throw new ResponseError(ErrorCodes.InvalidRequest, 'The server has been shut down.');
  }

  #fileOf(document: TextDocument): OpenFile {
    return this.#keptOf(document).file;
  }

  #keptOf(document: TextDocument): Kept {
    const kept = this.#kept.get(document.uri);
    if (kept?.file.version === document.version) return kept;
    const file = new OpenFile(document, this.#surroundings);
    const renewed: Kept =
      kept === undefined
        ? { file, program: undefined, states: undefined, pause: undefined, checkMs: 0, checkedAt: 0 }
        : kept;
    renewed.file = file;
    this.#kept.set(document.uri, renewed);
    return renewed;
  }

  #programOf(file: OpenFile): CheckedProgram | undefined {
    const kept = this.#kept.get(file.uri);
    const { program } = file.compiled;
    if (kept !== undefined && program !== undefined) kept.program = program;
    return program ?? kept?.program;
  }

  #sourceOf(path: string): SourceFile | undefined {
    return [...this.#kept.values()].find(({ file }) => file.source.path === path)?.file.source;
  }

  /** The programs that may use what a file defines: those that are open, and those in its folder. */
  #programsAround(file: OpenFile): readonly OpenFile[] {
    const open = [...this.#kept.values()].map((one) => one.file);
    const beside = programsBeside(file).filter(({ uri }) => !this.#kept.has(uri));
    const closed = beside.map((document) => new OpenFile(document, this.#surroundings));
    return [...open, ...closed].filter((one) => one === file || one.includes(file.source.path));
  }

  /** Also checks again what imports the file. */
  #changed(document: TextDocument): void {
    const { path } = this.#keptOf(document).file.source;
    this.#checkSoon(document);
    for (const kept of this.#kept.values()) {
      const importer = this.#documents.get(kept.file.uri);
      if (importer === undefined || importer === document || !kept.file.includes(path)) continue;
      kept.file = new OpenFile(importer, this.#surroundings);
      this.#checkSoon(importer);
    }
  }

  /** At once after a pause; while edits follow each other, at most half of the time goes into checks. */
  #checkSoon(document: TextDocument): void {
    const kept = this.#keptOf(document);
    clearTimeout(kept.pause);
    const rest = kept.checkedAt + Math.min(kept.checkMs, LONGEST_PAUSE_MS) - performance.now();
    kept.pause = setTimeout(() => this.#publish(document), Math.max(rest, SHORTEST_PAUSE_MS));
  }

  #closed({ uri }: TextDocument): void {
    const closed = this.#kept.get(uri);
    clearTimeout(closed?.pause);
    this.#kept.delete(uri);
    this.#connection.sendDiagnostics({ uri, diagnostics: [] });
  }

  #publish(document: TextDocument): void {
    if (this.#client === undefined) return;
    const kept = this.#keptOf(document);
    const started = performance.now();
    const { uri, version } = kept.file;
    const diagnostics = this.#diagnosticsOf(kept.file).map(shownDiagnostic);
    kept.checkedAt = performance.now();
    kept.checkMs = kept.checkedAt - started;
    this.#connection.sendDiagnostics({ uri, version, diagnostics });
  }

  /** What is wrong with the text, and which files and layers it names that are not there. */
  #diagnosticsOf(file: OpenFile): readonly Diagnostic[] {
    if (file.isTooLarge) return [tooLarge(file)];
    const { program, diagnostics } = file.compiled;
    this.#programOf(file);
    const missing = program === undefined || file.folder === undefined ? [] : this.#project.mistakesOf(program);
    const all = [...diagnostics, ...missing];
    return [...all.filter(({ span }) => span.source === file.source), ...mistakesOfImports(file, all)];
  }

  /** `undefined` where there is no program without mistakes yet, or no folder that a store could lie in. */
  async #statesOf(file: OpenFile): Promise<States | undefined> {
    const program = this.#programOf(file);
    const kept = this.#kept.get(file.uri);
    if (program === undefined || kept === undefined || file.folder === undefined) return undefined;
    const mark = storeMark(this.#project.peekingStoreOf(program));
    if (kept.states?.of !== program || kept.states.mark !== mark) {
      const states = statesOf(program, this.#project, new AbortController().signal);
      kept.states = { of: program, mark, states };
    }
    return kept.states.states;
  }

  /** A build that has ended changes what lenses and hints say: the editor is told to ask again. */
  #watchStores(): void {
    const { codeLens, inlayHint } = this.#client?.capabilities.workspace ?? {};
    let hasChanged = false;
    for (const { states } of this.#kept.values()) {
      if (states !== undefined && storeMark(this.#project.peekingStoreOf(states.of)) !== states.mark) hasChanged = true;
    }
    if (!hasChanged) return;
    const refresh = (request: typeof CodeLensRefreshRequest.type) =>
      // An editor that is busy, or about to end, may refuse.
      this.#connection.sendRequest(request).catch(() => {});
    if (codeLens?.refreshSupport) refresh(CodeLensRefreshRequest.type);
    if (inlayHint?.refreshSupport) refresh(InlayHintRefreshRequest.type);
  }

  /** Commands that the editor says it has: `initializationOptions: { "commands": ["lorac.build"] }`. */
  #clientCommands(): ReadonlySet<string> {
    const options = this.#client?.initializationOptions as { readonly commands?: unknown } | null | undefined;
    const commands = Array.isArray(options?.commands) ? options.commands : [];
    return new Set(commands.filter((one) => typeof one === 'string'));
  }
}
