// What is seen: the face as canvas or video, the curtain before it, the whole screen.

import { el } from "./dom.js";
import { Player } from "./player.js";

const NO_PICTURE = 4000; // ms after which a video without a picture is given up

export class Stage {
  /**
   * @param {(frame: object) => void} onShown  a frame of the WebSocket is seen and heard
   * @param {() => void} onNoPicture  the connection stands, but no video comes
   */
  constructor(onShown, onNoPicture) {
    this.shown = 0; // pictures, since the page was opened
    this.audible = true;
    this.onNoPicture = onNoPicture;
    this.player = new Player(el("canvas"), (frame) => {
      if (frame.picture) this.pictured();
      onShown(frame);
    });
    this.countVideo();
    el("full").addEventListener("click", () => this.toggleWhole());
    document.addEventListener("fullscreenchange", () => this.tellWhole());
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape" && el("stage").classList.contains("whole")) this.toggleWhole();
    });
  }

  /** A session begins: where its pictures come from. `media` is undefined for a WebSocket. */
  begin(hello, media) {
    this.media = media;
    this.pictures = 0;
    this.player.reset();
    this.player.late = this.player.dropped = 0;
    el("mark").textContent = hello.mark;
    el("video").srcObject = media ?? null;
    if (!media) return;
    this.playVideo();
    setTimeout(() => {
      if (this.media === media && !this.pictures) this.onNoPicture();
    }, NO_PICTURE);
  }

  /** The connection has gone; the last picture stays. */
  end() {
    this.media = undefined;
  }

  pictured() {
    this.shown += 1;
    this.pictures += 1;
    if (this.pictures > 1) return;
    el("canvas").hidden = Boolean(this.media);
    el("video").hidden = !this.media;
  }

  countVideo() {
    const video = el("video");
    if (!video.requestVideoFrameCallback) {
      video.addEventListener("timeupdate", () => this.pictured());
      return;
    }
    const count = () => {
      this.pictured();
      video.requestVideoFrameCallback(count);
    };
    video.requestVideoFrameCallback(count);
  }

  setAudible(audible) {
    this.audible = audible;
    this.player.setAudible(audible);
    this.playVideo();
  }

  /** The user did something: from now on the browser lets sound play. */
  unlock() {
    this.player.unlock();
    this.playVideo();
  }

  async playVideo() {
    const video = el("video");
    video.muted = !this.audible;
    if (!video.srcObject) return;
    try {
      await video.play();
    } catch {
      video.muted = true; // until the user does something
      video.play().catch(() => {});
    }
  }

  /** A still picture for the time before the first frame. */
  setStill(url, name) {
    el("still").src = url;
    for (const id of ["canvas", "video"]) el(id).setAttribute("aria-label", `${name}, talking`);
  }

  /** What is going on, over the picture; nothing while it lives. */
  setPhase({ phase, text, seconds }) {
    clearInterval(this.countdown);
    el("stage").dataset.phase = phase;
    el("curtain").hidden = phase === "live";
    el("again").hidden = phase === "connecting";
    el("again").textContent = phase === "paused" ? "Go on" : "Try now";
    const until = performance.now() + 1000 * seconds;
    const show = () => {
      const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      const soon = seconds >= 1 ? ` Trying again in ${left} s.` : "";
      el("curtain-text").textContent = text + soon;
    };
    show();
    if (seconds >= 1) this.countdown = setInterval(show, 500);
  }

  toggleWhole() {
    const stage = el("stage");
    if (document.fullscreenElement) document.exitFullscreen();
    else if (stage.requestFullscreen) stage.requestFullscreen().catch(() => this.fillWindow());
    else this.fillWindow(); // phones that give the whole screen to videos only, without the mark
  }

  fillWindow() {
    el("stage").classList.toggle("whole");
    this.tellWhole();
  }

  tellWhole() {
    const whole = Boolean(document.fullscreenElement) || el("stage").classList.contains("whole");
    el("full").setAttribute("aria-pressed", String(whole));
  }
}
