/** Ends a `switch` over a union: the compiler complains here when a case is missing. */
export function unreachable(value: never): never {
  throw new Error(`Internal error: unexpected ${JSON.stringify(value)}`);
}
