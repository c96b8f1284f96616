// Server-sent events, out of the pieces of a stream's text.

export class EventParser {
  #rest = "";
  #afterReturn = false;
  #name = "";
  #data = [];

  // The events that a piece completes, as { name, data }; a comment is { name: "", data: "" }: the server is there.
  *feed(piece) {
    // A piece may end between the two characters of a line's end.
    if (this.#afterReturn && piece.startsWith("\n")) piece = piece.slice(1);
    else if (piece === "") return;
    this.#afterReturn = piece.endsWith("\r");
    const lines = (this.#rest + piece).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    for (const line of lines) yield* this.#take(line);
  }

  *#take(line) {
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
