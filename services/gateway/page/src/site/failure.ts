// A failure that the page shows: one of the catalogue's, or one of a site without a server.

export class Failure extends Error {
  readonly code: string;
  readonly metadata: Record<string, string>;

  constructor(code: string, metadata: Record<string, string | number> = {}) {
    super(code);
    this.code = code;
    this.metadata = Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, String(value)]));
  }
}
