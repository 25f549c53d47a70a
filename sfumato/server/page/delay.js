// How long a voice takes to its face, measured: the loudness of what the microphone heard is found
// again in the loudness of what the face says. Nothing is estimated, and no clocks are compared.

import { RATE } from "./messages.js";

const STEP = 5; // ms
const WINDOW = 1600 / STEP; // steps that are compared
const FARTHEST = 2000 / STEP; // steps of delay that are looked for
const KEPT = 2 * (WINDOW + FARTHEST);
const SURE = 0.8; // correlation; below that nothing is said
const LIVELY = 0.5; // spread of the log loudness; an even noise has no features to find

/** Loudness over time, in steps of 5 ms of the page's clock. */
class Loudness {
  constructor() {
    this.steps = new Float32Array(KEPT);
    this.stamps = new Float64Array(KEPT).fill(-1);
    this.first = Infinity; // step
  }

  /** Int16Array of 16 kHz whose first sample was at `start` (ms). */
  add(samples, start) {
    const size = (RATE * STEP) / 1000;
    for (let i = 0; i + size <= samples.length; i += size) {
      let power = 0;
      for (let k = i; k < i + size; k++) power += samples[k] * samples[k];
      const step = Math.round(start / STEP) + i / size;
      this.first = Math.min(this.first, step);
      this.steps[step % KEPT] = Math.log(power / size + 1000); // below 30 of 32768 is silence
      this.stamps[step % KEPT] = step;
    }
  }

  /** `count` steps before `end`; a step without sound is as the one before it. */
  before(end, count) {
    const out = new Float32Array(count);
    let last = Math.log(1000);
    for (let i = 0; i < count; i++) {
      const step = end - count + i;
      if (this.stamps[step % KEPT] === step) last = this.steps[step % KEPT];
      out[i] = last;
    }
    return out;
  }
}

export class DelayMeter {
  constructor() {
    this.reset();
  }

  reset() {
    this.mouth = new Loudness();
    this.face = new Loudness();
  }

  /** What the microphone heard from `start` on (ms). */
  heard(samples, start) {
    this.mouth.add(samples, start);
  }

  /** What the face says from `start` on (ms). */
  said(samples, start) {
    this.face.add(samples, start);
  }

  /**
   * The delay in ms, or null where nothing can be said: silence, or the two are not alike.
   * @param {number} now  ms
   */
  measure(now) {
    const end = Math.floor(now / STEP) - 20; // what is planned for later is not yet complete
    const said = centred(this.face.before(end, WINDOW));
    if (said.spread < LIVELY) return null;
    const heard = this.mouth.before(end, WINDOW + FARTHEST);
    const farthest = Math.min(FARTHEST, end - WINDOW - this.mouth.first);
    let best = 0;
    let at = -1;
    for (let lag = 0; lag <= farthest; lag++) {
      const from = FARTHEST - lag;
      const piece = centred(heard.subarray(from, from + WINDOW));
      if (piece.spread < LIVELY) continue;
      let sum = 0;
      for (let i = 0; i < WINDOW; i++) sum += said.values[i] * piece.values[i];
      const likeness = sum / (WINDOW * said.spread * piece.spread);
      if (likeness > best) [best, at] = [likeness, lag];
    }
    // At the end of what was looked at there is no peak, only the side of one that lies farther.
    return best >= SURE && at < farthest ? at * STEP : null;
  }
}

function centred(values) {
  let mean = 0;
  for (const value of values) mean += value;
  mean /= values.length;
  let power = 0;
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    out[i] = values[i] - mean;
    power += out[i] * out[i];
  }
  return { values: out, spread: Math.sqrt(power / values.length) };
}
