// Server-sent events, out of the pieces of a stream's text.

export interface ServerEvent {
  name: string;
  data: string;
}

export class EventParser {
  #rest = "";
  #afterReturn = false;
  #name = "";
  #data: string[] = [];

  /** Yields the events that a piece completes; a comment has an empty name and no data. */
  *feed(given: string): Generator<ServerEvent> {
    // A piece may end between the two characters of a line's end.
    const piece = this.#afterReturn && given.startsWith("\n") ? given.slice(1) : given;
    if (given === "") return;
    this.#afterReturn = piece.endsWith("\r");
    const lines = (this.#rest + piece).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) yield* this.#take(line);
  }

  *#take(line: string): Generator<ServerEvent> {
    if (line === "") {
      if (this.#data.length) yield { name: this.#name || "message", data: this.#data.join("\n") };
      this.#name = "";
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "") yield { name: "", data: "" };
    if (field === "event") this.#name = value;
    if (field === "data") this.#data.push(value);
  }
}
