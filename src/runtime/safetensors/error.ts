// A weights file that cannot be read, told with its path and the reason.

export class SafetensorsError extends Error {
  readonly path: string;
  readonly reason: string;
  constructor(path: string, reason: string) {
    super(`"${path}" is not a readable safetensors file: ${reason}`);
    this.path = path;
    this.reason = reason;
  }
}
