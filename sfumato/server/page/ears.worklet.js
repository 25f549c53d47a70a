// Runs in the sound's own thread: hands on what it hears as 20 ms of int16 mono at 16 kHz.

import { Resampler, toInt16 } from "./resample.js";

const RATE = 16000;
const CHUNK = RATE / 50;

class Ears extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.waiting = new Float32Array(CHUNK);
    this.count = 0;
  }

  process([input]) {
    if (input.length) this.hear(mono(input));
    return true;
  }

  hear(samples) {
    for (const sample of this.resampler.push(samples)) {
      this.waiting[this.count++] = sample;
      if (this.count === CHUNK) {
        const chunk = toInt16(this.waiting);
        this.port.postMessage(chunk, [chunk.buffer]);
        this.count = 0;
      }
    }
  }
}

function mono(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, i) => channels.reduce((sum, c) => sum + c[i], 0) / channels.length);
}

registerProcessor("ears", Ears);
