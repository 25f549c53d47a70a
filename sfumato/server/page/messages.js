// The messages of docs/protocol.md: a byte that says the kind, then the body, little endian.
// Typed arrays have the byte order of the machine, and every browser's machine is little endian.

export const VERSION = 1;
export const RATE = 16000; // samples a second, on both ways
export const FPS = 25;
export const MOST_SAMPLES = 16000; // in one message

export const Kind = Object.freeze({
  HELLO: 0, CONTROL: 1, SOUND: 2, SPEECH: 3, FRAME: 4, STATE: 5, ERROR: 6, END: 7,
});

const HEAD = 1 + 12; // the kind's byte and a frame's fixed part

/** A message whose body is JSON. */
export function packJson(kind, content) {
  const body = new TextEncoder().encode(JSON.stringify(content));
  const message = new Uint8Array(1 + body.length);
  message[0] = kind;
  message.set(body, 1);
  return message;
}

/** A message of sound: Int16Array, mono, 16 kHz. */
export function packSound(kind, samples) {
  const message = new Uint8Array(1 + samples.byteLength);
  message[0] = kind;
  message.set(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength), 1);
  return message;
}

/**
 * Read a message of the server's.
 * @param {ArrayBuffer} data
 * @returns {{kind: number, content: object} | null} null for what this page does not know.
 */
export function unpack(data) {
  const kind = data.byteLength ? new Uint8Array(data, 0, 1)[0] : -1;
  if (kind === Kind.FRAME) return { kind, content: unpackFrame(data) };
  if (kind === Kind.HELLO || kind === Kind.STATE || kind === Kind.ERROR) {
    return { kind, content: JSON.parse(new TextDecoder().decode(new Uint8Array(data, 1))) };
  }
  return null;
}

/** A frame: samples are an Int16Array, picture is a Blob or null (show the one before again). */
function unpackFrame(data) {
  if (data.byteLength < HEAD) throw new RangeError("a frame is cut off");
  const view = new DataView(data, 1);
  const flags = view.getUint8(4);
  const middle = HEAD + 2 * view.getUint16(6, true);
  const end = middle + view.getUint32(8, true);
  if (end !== data.byteLength) throw new RangeError("a frame has the wrong size");
  const jpeg = view.getUint8(5) === 1 && end > middle;
  return {
    index: view.getUint32(0, true),
    speech: Boolean(flags & 1),
    ends: Boolean(flags & 2),
    samples: new Int16Array(data.slice(HEAD, middle)),
    picture: jpeg ? new Blob([new Uint8Array(data, middle)], { type: "image/jpeg" }) : null,
  };
}
