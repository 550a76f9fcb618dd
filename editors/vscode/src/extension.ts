// lorac in VS Code: starts `lorac lsp` for .lora files, and runs lorac's commands in a terminal.

import { dirname } from 'node:path';
import * as vscode from 'vscode';
import { LanguageClient, type ServerOptions } from 'vscode-languageclient/node';
import { commandLine, loracCommand } from './server-command.ts';

/** What the server may put into lenses, since this extension has it. */
const BUILD = 'lorac.build';

let client: LanguageClient | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  context.subscriptions.push(
    vscode.commands.registerCommand(BUILD, (uri?: string, target?: string) => runInTerminal('build', uri, target)),
    vscode.commands.registerCommand('lorac.check', (uri?: string) => runInTerminal('check', uri)),
    vscode.commands.registerCommand('lorac.plan', (uri?: string) => runInTerminal('plan', uri)),
    vscode.commands.registerCommand('lorac.restart', restart),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration('lorac.path')) void restart();
    }),
  );
  await start();
}

export async function deactivate(): Promise<void> {
  await client?.stop();
}

async function start(): Promise<void> {
  const { command, args } = loracCommand(loracPath(), ['lsp', '--stdio']);
  const serverOptions: ServerOptions = { command, args: [...args] };
  client = new LanguageClient('lorac', 'lorac', serverOptions, {
    documentSelector: [{ language: 'lora' }],
    initializationOptions: { commands: [BUILD] },
  });
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    const reason = error instanceof Error ? error.message : String(error);
    const choice = await vscode.window.showErrorMessage(
      `lorac does not start (${reason}). Install it, or say in the settings where it is.`,
      'Open the setting',
    );
    if (choice) await vscode.commands.executeCommand('workbench.action.openSettings', 'lorac.path');
  }
}

async function restart(): Promise<void> {
  await client?.stop();
  await start();
}

function loracPath(): string {
  return vscode.workspace.getConfiguration('lorac').get('path', 'lorac');
}

/** From a lens with the file and a block; from the palette with neither: then it is the file that one looks at. */
async function runInTerminal(verb: 'build' | 'check' | 'plan', uri?: unknown, target?: unknown): Promise<void> {
  const file = fileOf(uri) ?? vscode.window.activeTextEditor?.document.uri;
  if (file?.scheme !== 'file') {
    void vscode.window.showErrorMessage('Save the program first: lorac reads it from the disk.');
    return;
  }
  await vscode.workspace.textDocuments.find((document) => document.uri.toString() === file.toString())?.save();
  const args = [verb, file.fsPath, ...(typeof target === 'string' ? [target] : [])];
  const isPowerShell = /(?:pwsh|powershell)(?:\.exe)?$/i.test(vscode.env.shell);
  const line = commandLine(loracCommand(loracPath(), args), isPowerShell);
  if (line === undefined) {
    void vscode.window.showErrorMessage('The name of the file or of the block has a quote in it: run lorac by hand.');
    return;
  }
  const name = `lorac ${verb}`;
  const idle = vscode.window.terminals.find((one) => one.name === name && one.exitStatus === undefined);
  const terminal = idle ?? vscode.window.createTerminal({ name, cwd: dirname(file.fsPath) });
  terminal.show(true);
  terminal.sendText(line);
}

function fileOf(uri: unknown): vscode.Uri | undefined {
  if (uri instanceof vscode.Uri) return uri;
  return typeof uri === 'string' ? vscode.Uri.parse(uri) : undefined;
}
