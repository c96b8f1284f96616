import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "../src/events";

const STREAM =
  ": a comment\n\nevent: one\ndata: first line\ndata:second line\nid: 7\n\ndata\n\nevent: nothing\n\nevent: ü\ndata:  𝔸\n\ndata: unfinished";
const EVENTS = [
  ["", ""],
  ["one", "first line\nsecond line"],
  ["message", ""],
  ["ü", " 𝔸"],
];

for (const end of ["\n", "\r", "\r\n"])
  for (const size of [1, 2, 5, 1000])
    test(`pieces of ${size} with the line end ${JSON.stringify(end)} give the same events`, () => {
      const text = STREAM.replaceAll("\n", end);
      const parser = new EventParser();
      const found: string[][] = [];
      for (let at = 0; at < text.length; at += size)
        for (const { name, data } of parser.feed(text.slice(at, at + size))) found.push([name, data]);
      assert.deepEqual(found, EVENTS);
    });
