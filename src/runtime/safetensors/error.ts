// A weights file that cannot be read, told with its path and the reason.

/** `cut-off`: the beginning is right and the end is missing. `other-format`: it is something else altogether. */
export type Damage = 'cut-off' | 'other-format' | 'malformed';

export class SafetensorsError extends Error {
  readonly path: string;
  readonly reason: string;
  readonly damage: Damage;
  constructor(path: string, reason: string, damage: Damage = 'malformed') {
    super(`"${path}" is not a readable safetensors file: ${reason}`);
    this.path = path;
    this.reason = reason;
    this.damage = damage;
  }
}
