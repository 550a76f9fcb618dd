// What no editor should send, and what no file should hold: the server answers or refuses, and goes on.

import type { ChildProcess } from 'node:child_process';
import { expect, test } from 'vitest';
import {
  type CompletionItem,
  createProtocolConnection,
  type DocumentSymbol,
  type Hover,
  type Location,
  type ProtocolConnection,
  PublishDiagnosticsNotification,
  type PublishDiagnosticsParams,
  StreamMessageReader,
  StreamMessageWriter,
} from 'vscode-languageserver/node';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { openEditor, startServer } from './editor.ts';
import { manyLines } from './program.ts';

const ended = (server: ChildProcess) => new Promise<number | null>((done) => server.once('exit', done));

/** A connection on which nothing has been said yet. */
function connect(): { server: ChildProcess; connection: ProtocolConnection; end: () => Promise<void> } {
  const server = startServer();
  if (server.stdout === null || server.stdin === null) throw new Error('no streams');
  const connection = createProtocolConnection(
    new StreamMessageReader(server.stdout),
    new StreamMessageWriter(server.stdin),
  );
  connection.listen();
  const end = async () => {
    const over = ended(server);
    server.stdin?.end();
    await over;
    connection.dispose();
  };
  return { server, connection, end };
}

test('requests before "initialize" are refused, and the server goes on', async () => {
  const { connection, end } = connect();
  const params = { textDocument: { uri: 'file:///x.lora' }, position: { line: 0, character: 0 } };
  for (const method of ['textDocument/hover', 'textDocument/completion', 'textDocument/codeLens']) {
    await expect(connection.sendRequest(method, params)).rejects.toMatchObject({ code: -32002 });
  }
  await expect(
    connection.sendRequest('initialize', { capabilities: {}, processId: null, rootUri: null }),
  ).resolves.toMatchObject({
    capabilities: { hoverProvider: true },
  });
  await end();
});

test('after "shutdown" every request is refused', async () => {
  const { connection, end } = connect();
  await connection.sendRequest('initialize', { capabilities: {}, processId: null, rootUri: null });
  await connection.sendRequest('shutdown');
  const params = { textDocument: { uri: 'file:///x.lora' } };
  await expect(connection.sendRequest('textDocument/documentSymbol', params)).rejects.toMatchObject({ code: -32600 });
  await end();
});

test('an editor that goes away takes the server with it, within a second', async () => {
  const started = performance.now();
  const { server, connection } = connect();
  await connection.sendRequest('initialize', { capabilities: {}, processId: process.pid, rootUri: null });
  // Says how long a moment is on this machine, which may do other work just now.
  const startMs = performance.now() - started;
  const over = ended(server);
  const closed = performance.now();
  server.stdin?.end();
  expect(await over).toBe(1);
  expect(performance.now() - closed).toBeLessThan(1000 + startMs);
});

test('"shutdown" and "exit" end it with 0', async () => {
  const { server, connection } = connect();
  await connection.sendRequest('initialize', { capabilities: {}, processId: process.pid, rootUri: null });
  const over = ended(server);
  await connection.sendRequest('shutdown');
  await connection.sendNotification('exit');
  expect(await over).toBe(0);
});

test('what is no JSON, no message and no request of ours does not end it', async () => {
  const { server, connection, end } = connect();
  const send = (body: string) => server.stdin?.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  send('{"jsonrpc":"2.0","id":1,"method":');
  send('[]');
  send('null');
  send('{"jsonrpc":"2.0","id":7}');
  send('{"jsonrpc":"2.0","method":"textDocument/didChange","params":{}}');
  send('{"jsonrpc":"2.0","method":"textDocument/didOpen","params":null}');
  server.stdin?.write('Content-Length: nothing\r\n\r\n');
  // What stands behind such a header in the same piece of the stream belongs to it.
  await new Promise((done) => setTimeout(done, 300));
  await expect(connection.sendRequest('no/such/method')).rejects.toMatchObject({ code: -32601 });
  await expect(
    connection.sendRequest('initialize', { capabilities: {}, processId: null, rootUri: null }),
  ).resolves.toBeDefined();
  await end();
});

const uri = 'file:///nowhere/hostile.lora';

/** A session in which one text is open. */
async function withText(text: string, textUri = uri) {
  const { connection, end } = connect();
  await connection.sendRequest('initialize', { capabilities: {}, processId: null, rootUri: null });
  await connection.sendNotification('initialized', {});
  const diagnostics = new Promise<PublishDiagnosticsParams>((done) => {
    connection.onNotification(PublishDiagnosticsNotification.type, done);
  });
  const textDocument = { uri: textUri, languageId: 'lora', version: 1, text };
  await connection.sendNotification('textDocument/didOpen', { textDocument });
  const ask = <Answer>(method: string, params: object = {}): Promise<Answer> =>
    connection.sendRequest(method, { textDocument: { uri: textUri }, ...params });
  return { ask, connection, end, diagnostics };
}

const placed = ['hover', 'completion', 'definition', 'prepareRename', 'documentHighlight'];
const whole = ['documentSymbol', 'foldingRange', 'semanticTokens/full', 'codeLens'];

test('about a text that is not open there is nothing to say', async () => {
  const { ask, end } = await withText('');
  const textDocument = { uri: 'file:///nowhere/other.lora' };
  const position = { line: 3, character: 3 };
  for (const method of placed) expect(await ask(`textDocument/${method}`, { textDocument, position })).toBeNull();
  expect(await ask('textDocument/documentSymbol', { textDocument })).toBeNull();
  expect(await ask('textDocument/semanticTokens/full', { textDocument })).toEqual({ data: [] });
  await end();
});

test.each([[{ line: 999, character: 999 }], [{ line: 0, character: 999_999_999 }], [{ line: -1, character: -5 }]])(
  'a place outside of the text is taken for its end or its beginning: %j',
  async (position) => {
    const { ask, end } = await withText('checkpoint pony { path = "x" }\n');
    for (const method of placed) await ask(`textDocument/${method}`, { position });
    const range = { start: position, end: position };
    await ask('textDocument/codeAction', { range, context: { diagnostics: [] } });
    await ask('textDocument/semanticTokens/range', { range });
    await ask('textDocument/inlayHint', { range });
    await end();
  },
);

test('lines may end in CR LF, and letters may take two units', async () => {
  const text = `# 🦊🦊\r\nlet fox = "🦊"\r\nsave "\${fox}-🦊-\${fox}.safetensors" { from = raw }\r\n`;
  const { ask, end, diagnostics } = await withText(text);
  const { diagnostics: found } = await diagnostics;
  // Each fox is two units wide.
  const line = text.split('\r\n')[2] ?? '';
  const place = { line: 2, character: line.indexOf('raw') };
  expect(found[0]?.range.start).toEqual(place);
  const position = { line: 2, character: line.lastIndexOf('fox') + 1 };
  const uses = await ask<Location[]>('textDocument/references', { position, context: { includeDeclaration: true } });
  expect(uses.map(({ range }) => [range.start.line, range.start.character, range.end.character])).toEqual([
    [1, 4, 7],
    [2, 8, 11],
    [2, line.lastIndexOf('fox'), line.lastIndexOf('fox') + 3],
  ]);
  await end();
});

test.each([
  ['nothing', ''],
  ['brackets that are never closed', '{[('.repeat(5_000)],
  ['half a letter', 'let x = "\ud83e"\nlet \udd8a = 1'],
  ['all control characters', String.fromCharCode(...Array(32).keys(), 127, 0x85, 0x202e, 0x2028)],
  ['a line of 200,000 letters', `let x = ${'a'.repeat(200_000)}`],
  [
    'names that JavaScript knows',
    'constructor __proto__ { toString = hasOwnProperty }\ntrain constructor { __proto__ = { } }',
  ],
])('every feature has an answer about %s', async (_, text) => {
  const { ask, end, diagnostics } = await withText(text);
  await diagnostics;
  for (const method of placed) {
    for (const character of [0, 3, 9, text.length]) {
      await ask(`textDocument/${method}`, { position: { line: 0, character } });
    }
  }
  for (const method of whole) await ask(`textDocument/${method}`);
  await end();
});

test('control characters of a file reach nobody', async () => {
  const evil = '\u001b[31mred\u0007\u202e';
  const text = `train "${evil}" { base = "${evil}" }\n${evil} = 1\nsave "${evil}.safetensors" { from = nobody }`;
  const { ask, end, diagnostics } = await withText(text);
  const { diagnostics: found } = await diagnostics;
  const symbols = await ask<DocumentSymbol[]>('textDocument/documentSymbol');
  const hovers = [await ask<Hover | null>('textDocument/hover', { position: { line: 0, character: 10 } })];
  const items = await ask<CompletionItem[]>('textDocument/completion', { position: { line: 2, character: 40 } });
  expect(found.length).toBeGreaterThan(2);
  const shown = JSON.stringify([found.map(({ message }) => message), symbols, hovers, items]);
  expect(shown).not.toMatch(/\\u00[01]|\\u007f|\u202e/);
  await end();
});

test('a text that is no file yet is checked, and names no files', async () => {
  const { diagnostics, ask, end } = await withText('checkpoint pony { path = "x.safetensors" }', 'untitled:Untitled-1');
  expect((await diagnostics).diagnostics).toEqual([]);
  expect(await ask('textDocument/codeLens')).toBeNull();
  await end();
});

test('a file of 30,000 lines gets its diagnostics', async () => {
  const { diagnostics, end } = await withText(`${manyLines(30_000)}\nnonsense`);
  expect((await diagnostics).diagnostics.length).toBeGreaterThan(0);
  await end();
}, 60_000);

test('a text that is larger than any program is told so, and nothing of it is read', async () => {
  const { diagnostics, ask, end } = await withText('x = 1\n'.repeat(800_000));
  expect((await diagnostics).diagnostics).toMatchObject([{ code: 'too-large' }]);
  expect(await ask('textDocument/documentSymbol')).toEqual([]);
  await end();
});

test('a store that is damaged, or a file, changes nothing but what can be said about blocks', async () => {
  using folder = temporaryFolder();
  folder.write({ '.lorac/mutable/history.json': '{', '.lorac/mutable/files.json': '[]', 'x.safetensors': 'x' });
  await using editor = await openEditor(folder.path);
  const text = editor.open('main.lora', 'lora x { path = "x.safetensors" }\nchop y { from = x  keep = [IN] }');
  expect(await text.diagnostics()).toEqual([]);
  const lenses = await editor.connection.sendRequest('textDocument/codeLens', { textDocument: { uri: text.uri } });
  expect(lenses).toHaveLength(4);
});
