// Hears a stream (the microphone, or the face's own sound) in pieces of 20 ms.

import { Trouble } from "./trouble.js";

const NAMES = {
  NotAllowedError: "is not allowed. Allow it beside the address of this page, then try again.",
  NotFoundError: "was not found. Connect one, then try again.",
  NotReadableError: "is used by another program. Close that, then try again.",
};

/**
 * Ask the browser for the microphone or the camera.
 * @param {MediaStreamConstraints} wish
 * @param {string} what  how to name it to the user
 * @throws {Trouble} with a line for the user
 */
export async function askFor(wish, what) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Trouble(`${what} works only on https:// or on http://localhost.`);
  }
  try {
    return await navigator.mediaDevices.getUserMedia(wish);
  } catch (error) {
    throw new Trouble(`${what} ${NAMES[error.name] ?? `cannot be used: ${error.message}`}`);
  }
}

/** The microphone, as a stream. */
export function askForMicrophone() {
  const audio = {
    channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true,
  };
  return askFor({ audio }, "The microphone");
}

/** Listens to a stream. Close it to stop; a stream of the microphone is then given back. */
export class Ears {
  /**
   * @param {MediaStream} stream
   * @param {(samples: Int16Array) => void} onSound  gets 20 ms, mono, 16 kHz
   */
  static async on(stream, onSound) {
    const context = new AudioContext({ latencyHint: "interactive" });
    if (!context.audioWorklet) {
      throw new Trouble("The microphone works only on https:// or on http://localhost.");
    }
    await context.audioWorklet.addModule(new URL("./ears.worklet.js", import.meta.url));
    await context.resume();
    const node = new AudioWorkletNode(context, "ears", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => onSound(data);
    context.createMediaStreamSource(stream).connect(node);
    return new Ears(context, stream);
  }

  constructor(context, stream) {
    this.context = context;
    this.stream = stream;
  }

  close() {
    this.context.close();
    for (const track of this.stream.getTracks()) track.stop();
  }
}
