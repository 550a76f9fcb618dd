// Why a node runs, in words. `plan`, `why` and every reporter say it through this one function.

import { cleanLine } from '../parser/clean-text.ts';
import { unreachable } from '../parser/unreachable.ts';
import type { StaleReason } from '../runtime/events.ts';

/** A phrase that fits behind "raw runs:", without a full stop. */
export function reasonInWords(reason: StaleReason): string {
  return cleanLine(words(reason));
}

function words(reason: StaleReason): string {
  switch (reason.kind) {
    case 'never-built':
      return 'not built yet';
    case 'input-changed':
      return `${reason.input} changed`;
    case 'input-will-change':
      return `${reason.input} runs first`;
    case 'attribute-changed':
      return `${reason.attribute} was ${reason.from}, now ${reason.to}`;
    case 'revision-changed':
      return `this version of lorac computes ${reason.stage} differently`;
    case 'result-lost':
      return `its stored result "${reason.output}" is gone`;
    case 'output-missing':
      return `its stored result has no "${reason.output}"`;
    case 'not-placed':
      return 'its file is not in place';
    case 'asked-for':
      return 'asked for';
    default:
      return unreachable(reason);
  }
}
