// Sound of any rate to another one, piece by piece: a windowed sinc, the same however it was cut.

const REACH = 16; // zero crossings of the kernel to each side
const STEPS = 256; // positions between two samples that the kernel is tabled for

/** Streaming resampler. It holds the end of what it was given; `push` returns what is complete. */
export class Resampler {
  /** @param {number} from  @param {number} to  rates in samples a second */
  constructor(from, to) {
    this.step = from / to;
    const scale = Math.min(1, to / from); // below the lower of the two Nyquist frequencies
    this.reach = Math.ceil(REACH / scale);
    this.kernel = kernel(this.reach, scale);
    this.kept = new Float32Array(this.reach); // silence before the first sample
    this.at = this.reach; // place of the next sample to make, in `kept`
  }

  /** @param {Float32Array} samples  @returns {Float32Array} */
  push(samples) {
    const all = new Float32Array(this.kept.length + samples.length);
    all.set(this.kept);
    all.set(samples, this.kept.length);
    const made = [];
    while (this.at + this.reach < all.length) {
      made.push(this.sampleAt(all, this.at));
      this.at += this.step;
    }
    const done = Math.max(0, Math.floor(this.at) - this.reach);
    this.kept = all.slice(done);
    this.at -= done;
    return Float32Array.from(made);
  }

  sampleAt(all, at) {
    const whole = Math.floor(at);
    const phase = Math.round((at - whole) * STEPS);
    let sum = 0;
    for (let k = 1 - this.reach; k <= this.reach; k++) {
      // In steps from the kernel's middle; a sample to the right has a negative distance.
      sum += all[whole + k] * this.kernel[Math.abs(k * STEPS - phase)];
    }
    return sum;
  }
}

/** One half of a Hann-windowed sinc, STEPS values for every sample. */
function kernel(reach, scale) {
  const half = new Float32Array(reach * STEPS + STEPS + 1);
  let sum = 0;
  for (let i = 0; i <= reach * STEPS; i++) {
    const x = i / STEPS;
    const angle = Math.PI * x * scale;
    const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
    half[i] = sinc * (0.5 + 0.5 * Math.cos((Math.PI * x) / reach));
    if (i % STEPS === 0) sum += (i === 0 ? 1 : 2) * half[i];
  }
  return half.map((value) => value / sum); // a constant stays what it is
}

/** Float32Array in [-1, 1] to Int16Array. */
export function toInt16(samples) {
  return Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))));
}
