// How the face shall move: feelings, gaze, distance, expressiveness, head.

import { el, make } from "./dom.js";

const FEELINGS = ["happy", "sad", "angry", "surprised", "afraid", "disgusted", "contemptuous"];
const MOTIONS = [
  { name: "distance", label: "Distance", min: 0.8, max: 1.25, step: 0.01 },
  { name: "expressiveness", label: "Expressiveness", min: 0, max: 2, step: 0.05 },
  { name: "head", label: "Head motion", min: 0, max: 2, step: 0.05 },
];
const MOST_GAZE = [30, 20]; // degrees sideways, and up or down
const GAZE_STEP = 2;
const INTERVAL = 100; // ms between two messages while a slider moves

export class Steering {
  /** @param {(options: object) => void} onChange  what changed, as the protocol's options */
  constructor(onChange) {
    this.onChange = onChange;
    this.changed = {};
    this.timer = 0;
    this.feelings = FEELINGS.map((name) => this.feeling(name));
    this.motions = MOTIONS.map((motion) => this.motion(motion));
    this.gaze = new Gaze((gaze) => this.wish({ gaze }));
    el("reset").addEventListener("click", () => this.reset());
  }

  feeling(name) {
    const label = name[0].toUpperCase() + name.slice(1);
    const slider = new Slider({ label, min: 0, max: 100, step: 1, usual: 0, unit: " %" }, () => {
      this.makeRoom(slider);
      this.wish({ emotion: this.emotion() });
    });
    slider.name = name;
    el("feelings").append(slider.box);
    return slider;
  }

  motion({ name, ...range }) {
    const slider = new Slider({ ...range, usual: 1, unit: " ×" }, () => {
      this.wish({ [name]: slider.value });
    });
    slider.name = name;
    el("motions").append(slider.box);
    return slider;
  }

  /** Feelings are 100 % together at most: the others give way to the one that is moved. */
  makeRoom(moved) {
    const others = this.feelings.filter((slider) => slider !== moved);
    const sum = others.reduce((all, slider) => all + slider.value, 0);
    const room = 100 - moved.value;
    if (sum <= room) return;
    for (const slider of others) slider.set(Math.floor((slider.value * room) / sum));
  }

  emotion() {
    const felt = this.feelings.filter(({ value }) => value > 0);
    return Object.fromEntries(felt.map(({ name, value }) => [name, value / 100]));
  }

  wish(options) {
    Object.assign(this.changed, options);
    if (this.timer) return;
    this.send();
    this.timer = setTimeout(() => {
      this.timer = 0;
      if (Object.keys(this.changed).length) this.send();
    }, INTERVAL);
  }

  send() {
    this.onChange(this.changed);
    this.changed = {};
  }

  reset() {
    for (const slider of [...this.feelings, ...this.motions]) slider.set(slider.usual);
    this.gaze.set(0, 0);
    const motions = Object.fromEntries(this.motions.map(({ name, value }) => [name, value]));
    this.wish({ ...motions, emotion: {}, gaze: [0, 0] });
  }
}

/** A line with its name and value; a double click brings the usual value back. */
class Slider {
  constructor({ label, min, max, step, usual, unit }, onInput) {
    this.usual = usual;
    this.unit = unit;
    this.digits = step < 1 ? 2 : 0;
    const id = `slider-${label.toLowerCase().replace(" ", "-")}`;
    this.input = make("input", { type: "range", id, min, max, step, value: usual });
    this.output = make("output", { htmlFor: id });
    this.box = make("div", { className: "slider" });
    this.box.append(make("label", { htmlFor: id }, label), this.output, this.input);
    this.input.addEventListener("input", () => {
      this.show();
      onInput();
    });
    this.input.addEventListener("dblclick", () => {
      this.set(usual);
      onInput();
    });
    this.show();
  }

  get value() {
    return Number(this.input.value);
  }

  set(value) {
    this.input.value = value;
    this.show();
  }

  show() {
    const { min, max } = this.input;
    const text = this.value.toFixed(this.digits) + this.unit;
    this.output.textContent = text;
    this.input.setAttribute("aria-valuetext", text);
    this.input.style.setProperty("--fill", `${(100 * (this.value - min)) / (max - min)}%`);
    this.box.dataset.set = String(this.value !== this.usual);
  }
}

/** The pad: drag the handle, or move it with the arrow keys; Home looks straight ahead. */
class Gaze {
  constructor(onChange) {
    this.onChange = onChange;
    this.set(0, 0);
    const pad = el("gaze");
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      this.point(event);
      el("gaze-thumb").focus({ preventScroll: true });
    });
    pad.addEventListener("pointermove", (event) => event.buttons && this.point(event));
    pad.addEventListener("dblclick", () => this.move(0, 0));
    el("gaze-thumb").addEventListener("keydown", (event) => this.key(event));
  }

  point(event) {
    event.preventDefault();
    const box = el("gaze").getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    this.move(MOST_GAZE[0] * (2 * x - 1), MOST_GAZE[1] * (2 * y - 1));
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (!step && event.key !== "Home") return;
    event.preventDefault();
    if (step) this.move(this.yaw + GAZE_STEP * step[0], this.pitch + GAZE_STEP * step[1]);
    else this.move(0, 0);
  }

  move(yaw, pitch) {
    this.set(yaw, pitch);
    this.onChange([this.yaw, this.pitch]);
  }

  set(yaw, pitch) {
    const hold = (value, most) => Math.round(Math.max(-most, Math.min(most, value)));
    [this.yaw, this.pitch] = [hold(yaw, MOST_GAZE[0]), hold(pitch, MOST_GAZE[1])];
    const thumb = el("gaze-thumb");
    thumb.style.left = `${50 + (50 * this.yaw) / MOST_GAZE[0]}%`;
    thumb.style.top = `${50 + (50 * this.pitch) / MOST_GAZE[1]}%`;
    thumb.setAttribute("aria-valuenow", this.yaw);
    thumb.setAttribute("aria-valuetext", this.text());
  }

  text() {
    const parts = [];
    if (this.yaw) parts.push(`${Math.abs(this.yaw)} degrees ${this.yaw > 0 ? "right" : "left"}`);
    if (this.pitch) parts.push(`${Math.abs(this.pitch)} degrees ${this.pitch > 0 ? "down" : "up"}`);
    return parts.join(", ") || "straight ahead";
  }
}
