// The surroundings in which a Python of ours runs: the user's, without what would send it elsewhere.

const MISLEADING = [
  'PYTHONHOME',
  'PYTHONPATH',
  'PYTHONSTARTUP',
  'PYTHONOPTIMIZE',
  'VIRTUAL_ENV',
  'PIP_USER',
  'PIP_TARGET',
  'PIP_PREFIX',
  'PIP_REQUIRE_VIRTUALENV',
];

export function cleanPythonEnv(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const clean: NodeJS.ProcessEnv = { ...env, PYTHONNOUSERSITE: '1', PYTHONUTF8: '1' };
  // Undefined, not deleted: it then also hides what a process would inherit.
  for (const name of MISLEADING) clean[name] = undefined;
  return clean;
}
