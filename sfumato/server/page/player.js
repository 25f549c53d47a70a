// Plays the frames of a WebSocket: every picture is drawn when its sound is heard.
//
// The clock is that of the sound card where sound plays, else that of the page. Frames wait a little
// so that an uneven network is not seen; how long follows from how late they have come of late.

import { FPS, RATE } from "./messages.js";

const SHORTEST = 0.06; // seconds that frames wait
const LONGEST = 0.2;
const LONGER = 0.02; // once a frame came too late
const ROOM = 0.02; // waiting longer than wanted by this is noticed
const WATCH = 2 * FPS; // frames after which the wait may become shorter
const CALM = 5 * FPS; // frames in time after which it is tried shorter
const EARLY = 0.008; // half a picture of a 60 Hz screen: the nearest one is meant
const MOST_WAITING = 2 * FPS; // frames, in a page that is not looked at

export class Player {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(frame: object) => void} onShown  called when a frame's picture and sound are due
   */
  constructor(canvas, onShown) {
    this.canvas = canvas;
    this.paper = canvas.getContext("2d", { alpha: false });
    this.onShown = onShown;
    this.sound = null; // an AudioContext
    this.audible = false;
    this.waiting = [];
    this.wait = SHORTEST;
    this.late = 0; // frames that came after their time
    this.dropped = 0; // pictures that were never drawn
    this.reset();
    const draw = () => {
      this.draw();
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  /** Begin anew with the next frame. */
  reset() {
    this.begin = null; // the time of frame 0, on the clock
    this.least = Infinity; // time to spare, of the frames watched
    this.watched = 0;
    this.calm = 0;
    this.played = 0; // until when sound is planned
    for (const entry of this.waiting) entry.picture?.close?.();
    this.waiting = [];
  }

  /** Sound may play from now on; browsers want this called when the user does something. */
  unlock() {
    if (!this.sound) {
      // At the sound's own rate, so that the browser joins the frames without a seam.
      this.sound = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
      this.loudness = this.sound.createGain();
      this.loudness.gain.value = this.audible ? 1 : 0;
      this.loudness.connect(this.sound.destination);
      this.sound.onstatechange = () => this.reset();
    }
    if (this.sound.state !== "running") this.sound.resume().catch(() => {});
  }

  /** Whether the face is heard. */
  setAudible(audible) {
    if (audible === this.audible) return;
    this.audible = audible;
    if (this.sound) this.loudness.gain.value = audible ? 1 : 0;
    this.reset(); // another clock
  }

  /** Seconds, of the sound card where it is heard. */
  now() {
    return this.onSoundCard() ? this.sound.currentTime : performance.now() / 1000;
  }

  /** What is heard at this moment; behind `now` by what sits in the sound card. */
  heard() {
    if (!this.onSoundCard()) return this.now();
    const { contextTime, performanceTime } = this.sound.getOutputTimestamp();
    if (contextTime > 0) return contextTime + (performance.now() - performanceTime) / 1000;
    return this.sound.currentTime - (this.sound.outputLatency || this.sound.baseLatency || 0);
  }

  onSoundCard() {
    return this.audible && this.sound?.state === "running";
  }

  /** A frame of messages.js that has just come. */
  push(frame) {
    const due = this.plan(frame.index);
    if (this.onSoundCard()) this.play(frame.samples, due);
    const entry = { due, frame, picture: null, ready: frame.picture === null };
    this.waiting.push(entry);
    if (frame.picture) this.decode(entry);
    if (this.waiting.length > MOST_WAITING) this.leave(this.waiting.shift());
  }

  /** When a frame is due, on the clock; the plan moves when frames come too late or too early. */
  plan(index) {
    const now = this.now();
    if (this.begin === null) this.begin = snap(now + this.wait - index / FPS);
    let spare = this.begin + index / FPS - now;
    if (spare < 0) {
      this.late += 1;
      this.calm = 0;
      this.wait = Math.min(LONGEST, this.wait + LONGER);
      this.shift(this.wait - spare);
      spare = this.wait;
    }
    this.least = Math.min(this.least, spare);
    this.watched += 1;
    this.calm += 1;
    if (this.calm >= CALM) {
      this.wait = Math.max(SHORTEST, this.wait - LONGER);
      this.calm = 0;
    }
    if (this.watched >= WATCH) {
      if (this.least > this.wait + ROOM) this.shift(this.wait - this.least);
      this.least = Infinity;
      this.watched = 0;
    }
    return this.begin + index / FPS;
  }

  shift(seconds) {
    this.begin = snap(this.begin + seconds);
    this.least = Infinity;
    this.watched = 0;
  }

  play(samples, due) {
    const buffer = this.sound.createBuffer(1, samples.length, RATE);
    const data = buffer.getChannelData(0);
    for (let i = 0; i < samples.length; i++) data[i] = samples[i] / 32768;
    const source = this.sound.createBufferSource();
    source.buffer = buffer;
    source.connect(this.loudness);
    // Where the plan moved forward, what overlaps is left out.
    const overlap = Math.max(0, this.played - due);
    if (overlap < buffer.duration) source.start(due + overlap, overlap);
    this.played = Math.max(this.played, due + buffer.duration);
  }

  async decode(entry) {
    entry.picture = await createImageBitmap(entry.frame.picture).catch(() => null);
    entry.ready = true;
    if (entry.left) entry.picture?.close();
  }

  draw() {
    const heard = this.heard() + EARLY;
    let chosen = null;
    while (this.waiting.length && this.waiting[0].due <= heard && this.waiting[0].ready) {
      const entry = this.waiting.shift();
      this.onShown(entry.frame);
      if (!entry.picture) continue;
      if (chosen) this.leave(chosen);
      chosen = entry;
    }
    if (!chosen) return;
    const { width, height } = chosen.picture;
    if (this.canvas.width !== width) Object.assign(this.canvas, { width, height });
    this.paper.drawImage(chosen.picture, 0, 0);
    chosen.picture.close();
  }

  leave(entry) {
    this.dropped += entry.frame.picture ? 1 : 0;
    entry.left = true;
    entry.picture?.close();
  }
}

/** To a whole sample, so that pieces of sound meet exactly. */
function snap(seconds) {
  return Math.round(seconds * RATE) / RATE;
}
