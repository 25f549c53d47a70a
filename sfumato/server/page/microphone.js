// The button of the microphone: sends what it hears, shows how loud it is.

import { announce, el, toast } from "./dom.js";
import { Ears, askForMicrophone } from "./ears.js";

export class Microphone {
  /**
   * @param {(samples: Int16Array) => void} onSound  20 ms, mono, 16 kHz
   * @param {(on: boolean) => void} onChange
   */
  constructor(onSound, onChange) {
    this.onSound = onSound;
    this.onChange = onChange;
    this.ears = null;
    this.opening = false;
    el("mic").addEventListener("click", () => (this.on ? this.close() : this.open()));
  }

  get on() {
    return this.ears !== null;
  }

  async open() {
    if (this.opening) return;
    this.opening = true;
    try {
      const stream = await askForMicrophone();
      this.ears = await Ears.on(stream, (samples) => this.hear(samples));
      stream.getAudioTracks()[0].addEventListener("ended", () => {
        this.close();
        toast("The microphone was disconnected.");
      });
      announce("The microphone is on");
      this.changed();
    } catch (error) {
      toast(error.message);
    }
    this.opening = false;
  }

  close() {
    if (!this.on) return;
    this.ears.close();
    this.ears = null;
    announce("The microphone is off");
    this.changed();
  }

  changed() {
    el("mic").dataset.on = String(this.on);
    el("mic-text").textContent = this.on ? "Mute" : "Speak";
    el("mic").style.setProperty("--level", 0);
    this.onChange(this.on);
  }

  hear(samples) {
    let peak = 0;
    for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
    const level = Math.max(0, 1 + Math.log10(peak / 32768 + 1e-4) / 2); // 40 dB to full
    el("mic").style.setProperty("--level", level.toFixed(2));
    this.onSound(samples);
  }
}
