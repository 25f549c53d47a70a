// The read-out: delay, rate, quality, what was dropped. Once a second.

import { announce, el } from "./dom.js";

const SHORT = {
  full: "Full",
  "half the frame rate": "Half the rate",
  "half the frame rate, plain": "Half rate, plain",
};
const KEEP = 5; // seconds that a measured delay stays while nothing new can be said

export class Figures {
  /**
   * @param {Session} session
   * @param {Stage} stage
   * @param {DelayMeter} meter
   */
  constructor(session, stage, meter) {
    Object.assign(this, { session, stage, meter });
    this.reset();
    setInterval(() => this.tick(), 1000);
  }

  reset() {
    this.before = { shown: this.stage.shown, time: performance.now() };
    this.measured = -Infinity;
    this.stats = {};
    this.network = null;
    this.meter.reset();
    this.setQuality("full", true);
    for (const id of ["delay", "fps", "dropped", "network", "server-delay", "buffer"]) put(id);
    for (const id of ["server-late", "waiting", "transport"]) put(id);
  }

  /** A state message of the server's. */
  heard(state) {
    if (state.stats) this.stats = state.stats;
    if (state.quality) this.setQuality(state.quality);
    if (state.pong !== undefined) this.network = performance.now() - state.pong;
  }

  setQuality(quality, quiet = false) {
    el("quality").dataset.low = String(quality !== "full");
    put("quality", SHORT[quality] ?? quality);
    if (quiet) return;
    announce(quality === "full" ? "Full quality again" : `The server is slow: ${quality}`);
  }

  async tick() {
    const now = performance.now();
    const rate = (1000 * (this.stage.shown - this.before.shown)) / (now - this.before.time);
    this.before = { shown: this.stage.shown, time: now };
    if (!this.session.live) return;
    this.showDelay(now);
    put("fps", `${Math.round(rate)} fps`);
    put("network", milliseconds(this.network));
    put("server-delay", milliseconds(this.stats.delay_ms));
    put("server-late", this.stats.late?.toString());
    put("waiting", this.stats.waiting_s === undefined ? undefined : `${this.stats.waiting_s} s`);
    put("transport", this.session.link.name);
    const media = await this.session.link.stats();
    put("dropped", String(media.dropped ?? this.stage.player.dropped));
    put("buffer", milliseconds(1000 * (media.waited ?? this.stage.player.wait)));
  }

  showDelay(now) {
    const delay = this.meter.measure(now);
    if (delay !== null) {
      this.measured = now;
      put("delay", milliseconds(delay));
    } else if (now - this.measured > 1000 * KEEP) {
      put("delay");
    }
  }
}

function milliseconds(value) {
  return Number.isFinite(value) ? `${Math.round(value)} ms` : undefined;
}

function put(id, text = "–") {
  if (el(id).textContent !== text) el(id).textContent = text;
}
