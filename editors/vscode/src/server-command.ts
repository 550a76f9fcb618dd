// How lorac is started: by its name, or with this Node where a clone's own file is named.

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

/** `path`: what the setting says. `node`: a Node to run scripts with. */
export function loracCommand(path: string, args: readonly string[], node = 'node'): Command {
  const named = path.trim() === '' ? 'lorac' : path.trim();
  return /\.[cm]?js$/.test(named) ? { command: node, args: [named, ...args] } : { command: named, args };
}

/**
 * A command line for a terminal. In single quotes nothing means anything to a POSIX shell or to PowerShell but the quote
 * itself, which each writes in its own way; a name that holds one is therefore refused.
 */
export function commandLine({ command, args }: Command, isPowerShell: boolean): string | undefined {
  const words = [command, ...args];
  if (words.some((word) => /['\r\n\0]/.test(word))) return undefined;
  const quoted = words.map((word) => (/^[\w./:=@%+-]+$/.test(word) ? word : `'${word}'`));
  // PowerShell takes a quoted word at the beginning for a text.
  return `${isPowerShell && quoted[0] !== command ? '& ' : ''}${quoted.join(' ')}`;
}
