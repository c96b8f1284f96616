import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { readPng } from "../src/png";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

const chunk = (name: string, data: Buffer): Buffer => {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(data.length);
  return Buffer.concat([size, Buffer.from(name), data, Buffer.alloc(4)]); // the checksum is the browser's matter
};

function png(
  width: number,
  height: number,
  depth: number,
  colour: number,
  rows: number[],
  interlaced = 0,
): ArrayBuffer {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([depth, colour, 0, 0, interlaced], 8);
  const packed = deflateSync(Buffer.from(rows));
  const parts = [
    Buffer.from(SIGNATURE),
    chunk("IHDR", head),
    chunk("IDAT", packed.subarray(0, 5)),
    chunk("IDAT", packed.subarray(5)),
    chunk("IEND", Buffer.alloc(0)),
  ];
  return new Uint8Array(Buffer.concat(parts)).buffer;
}

test("16 bits are read whole, whatever filter a row has", async () => {
  // The same two values, 1000 and 1003, in five rows: plain, and as differences to the left, above, their mean and Paeth's.
  const [high, low] = [1000 >> 8, 1000 & 255];
  const rows = [
    0,
    high,
    low,
    high,
    low + 3,
    1,
    high,
    low,
    0,
    3,
    2,
    0,
    0,
    0,
    0,
    3,
    high - (high >> 1),
    low - (low >> 1),
    high - ((high + high) >> 1),
    low + 3 - ((low + low + 3) >> 1),
    4,
    0,
    0,
    0,
    0,
  ];
  const { data } = await readPng(
    png(
      2,
      5,
      16,
      0,
      rows.map((value) => value & 255),
    ),
  );
  assert.deepEqual([...data], [1000, 1003, 1000, 1003, 1000, 1003, 1000, 1003, 1000, 1003]);
});

test("indices of 8, 4, 2 and 1 bits are read as they are", async () => {
  assert.deepEqual([...(await readPng(png(3, 1, 8, 3, [0, 7, 0, 255]))).data], [7, 0, 255]);
  assert.deepEqual([...(await readPng(png(3, 1, 4, 3, [0, 0x1f, 0x20]))).data], [1, 15, 2]);
  assert.deepEqual([...(await readPng(png(5, 1, 2, 3, [0, 0b00011011, 0b01000000]))).data], [0, 1, 2, 3, 1]);
  assert.deepEqual(
    [...(await readPng(png(9, 1, 1, 0, [0, 0b10100000, 0b10000000]))).data],
    [1, 0, 1, 0, 0, 0, 0, 0, 1],
  );
});

test("what is not such a PNG is refused", async () => {
  await assert.rejects(readPng(new Uint8Array(40).buffer), /not a PNG/);
  await assert.rejects(readPng(png(1, 1, 8, 2, [0, 1, 2, 3])), /one channel/);
  await assert.rejects(readPng(png(1, 1, 8, 0, [0, 1], 1)), /one channel/);
  await assert.rejects(readPng(png(9, 9, 8, 0, [0, 1])), /cut/);
});
