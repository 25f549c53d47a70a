// A recording of the user's: decoded by the browser, and sent a little ahead of its being spoken.

import { RATE } from "./messages.js";
import { toInt16 } from "./resample.js";
import { Trouble } from "./trouble.js";

const MOST_BYTES = 200e6;
const AHEAD = 10; // seconds that wait on the server
const PIECE = RATE / 2;

/**
 * @param {File} file
 * @returns {Promise<Int16Array>} mono, 16 kHz
 * @throws {Trouble} with a line for the user
 */
export async function decode(file) {
  if (file.size > MOST_BYTES) {
    throw new Trouble(`${file.name} is larger than 200 MB: choose a shorter recording.`);
  }
  const decoder = new OfflineAudioContext(1, 1, RATE); // resamples to its own rate
  let sound;
  try {
    sound = await decoder.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Trouble(`${file.name} holds no sound that this browser can read. WAV or MP3 will do.`);
  }
  const channels = Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i));
  if (channels.length === 1) return toInt16(channels[0]);
  return toInt16(channels[0].map((_, i) => channels.reduce((s, c) => s + c[i], 0) / channels.length));
}

/** Feeds a session; `stop()` ends it early. */
export class Feeder {
  constructor(session, samples) {
    this.session = session;
    this.samples = samples;
    this.sent = 0;
    this.began = performance.now();
    this.timer = setInterval(() => this.feed(), 200);
    this.feed();
  }

  /** Seconds of it that are not spoken yet, about. */
  get left() {
    const spoken = (performance.now() - this.began) / 1000;
    return Math.max(0, this.samples.length / RATE - spoken);
  }

  feed() {
    const spoken = (performance.now() - this.began) / 1000;
    const until = Math.min(this.samples.length, Math.floor((spoken + AHEAD) * RATE));
    while (this.sent < until) {
      const end = Math.min(this.sent + PIECE, until);
      this.session.speech(this.samples.subarray(this.sent, end));
      this.sent = end;
    }
    if (this.sent >= this.samples.length) {
      this.session.endSpeech();
      this.stop();
    }
  }

  stop() {
    clearInterval(this.timer);
  }
}
