// Recording the face to a signed file on the server, and the list of what was recorded.

import { announce, clock, el, make, setIcon, toast } from "./dom.js";

export class Recordings {
  /** @param {Session} session */
  constructor(session) {
    this.session = session;
    this.running = false;
    this.count = 0;
    el("record").addEventListener("click", () => this.toggle());
  }

  toggle() {
    if (!this.session.live) {
      toast("There is no connection yet: wait until the face moves.");
      return;
    }
    this.session.control({ record: !this.running });
    if (this.running) this.ended();
  }

  /** What the server says of it: true, or the finished file. */
  heard(recording) {
    if (recording === true) this.began();
    else if (recording?.url) this.finished(recording);
  }

  began() {
    this.running = true;
    const start = performance.now();
    const show = () => {
      el("recording-time").textContent = clock((performance.now() - start) / 1000);
    };
    show();
    this.timer = setInterval(show, 500);
    el("recording-sign").hidden = false;
    el("record").setAttribute("aria-pressed", "true");
    setIcon(el("record"), "stop");
    announce("Recording");
  }

  ended() {
    this.running = false;
    clearInterval(this.timer);
    el("recording-sign").hidden = true;
    el("record").setAttribute("aria-pressed", "false");
    setIcon(el("record"), "record");
  }

  finished({ url, seconds }) {
    if (this.running) this.ended();
    this.count += 1;
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    icon.setAttribute("aria-hidden", "true");
    icon.innerHTML = '<use href="#i-save"/>';
    const name = `Recording ${this.count}`;
    const link = make("a", {
      href: new URL(url, document.baseURI), download: `sfumato-${this.count}.mp4`,
    }, icon, "Save");
    link.setAttribute("aria-label", `Save ${name}`);
    el("recordings").prepend(make("li", {}, `${name}, ${seconds.toFixed(1)} s`, link));
    el("recordings-box").hidden = false;
    toast(`${name} is ready: it is at the end of the page.`);
  }

  /** The connection has gone, and the recording with it. */
  lost() {
    if (!this.running) return;
    this.ended();
    toast("The recording ended with the connection and is not kept.");
  }
}
