// Keeps a live session: chooses what carries it, says hello, and begins anew when it breaks.

import { Kind, MOST_SAMPLES, VERSION, packJson, packSound, unpack } from "./messages.js";
import { openPeer } from "./rtc.js";
import { openSocket } from "./socket.js";
import { Full, Refused, Trouble } from "./trouble.js";

const PEER_TIME = 4000; // ms for WebRTC, then the WebSocket is taken
const SOCKET_TIME = 8000;
const HELLO_TIME = 15000; // a portrait may have to be prepared
const PAUSES = [0.5, 1, 2, 4, 8, 15]; // seconds between tries
const FULL_PAUSE = 10;
const OWN_SEAT = 12; // seconds that a WebRTC session of ours may still hold its place
const SILENCE = 8000; // ms without any message: the connection is gone, whatever it says
const MOST_BACKLOG = 16000; // bytes of the microphone that wait: half a second; more is left out

/**
 * Events: "phase" ({phase, text, seconds}), "hello", "frame", "state", "trouble".
 * Phases: connecting, live, retry (in so many seconds), full (the same), paused, over.
 */
export class Session extends EventTarget {
  /** @param {"auto"|"webrtc"|"websocket"} transport */
  constructor(transport) {
    super();
    this.transport = transport;
    this.peerFailed = 0; // when WebRTC did not come up
    this.portrait = null;
    this.options = {};
    this.link = null;
    this.attempt = null; // stands for one connection from its first try to its end
    this.tries = 0;
    this.phase = "over";
  }

  get live() {
    return this.phase === "live";
  }

  /** Connect, now. */
  start() {
    if (this.attempt) return; // it lives, or is about to
    clearTimeout(this.timer);
    this.connect();
  }

  /** Give the place back; `start` goes on. */
  pause(text) {
    this.drop();
    this.setPhase("paused", text);
  }

  /** What the face shall do, see part 3 of the protocol. */
  control(wishes) {
    if (wishes.options) this.options = { ...this.options, ...wishes.options };
    if (wishes.portrait) this.portrait = wishes.portrait;
    if (this.live) this.link.send(packJson(Kind.CONTROL, wishes));
  }

  /** 20 ms of the microphone. */
  sound(samples) {
    if (this.live && this.link.backlog() < MOST_BACKLOG) {
      this.link.send(packSound(Kind.SOUND, samples));
    }
  }

  /** A piece of a recording, of a second at most. */
  speech(samples) {
    for (let at = 0; at < samples.length; at += MOST_SAMPLES) {
      this.link?.send(packSound(Kind.SPEECH, samples.subarray(at, at + MOST_SAMPLES)));
    }
  }

  endSpeech() {
    this.link?.send(new Uint8Array([Kind.END]));
  }

  async connect() {
    this.setPhase("connecting", "Connecting …");
    const attempt = (this.attempt = {});
    try {
      const link = await this.open();
      if (attempt !== this.attempt) return link.close();
      this.link = link;
      await this.greet(link, attempt);
    } catch (error) {
      if (attempt === this.attempt) this.broken(error);
    }
  }

  async open() {
    const usePeer = this.transport === "webrtc" || (this.transport === "auto" && !this.peerFailed);
    if (!usePeer) return openSocket(AbortSignal.timeout(SOCKET_TIME));
    try {
      return await openPeer(AbortSignal.timeout(PEER_TIME));
    } catch (error) {
      if (error instanceof Full || this.transport === "webrtc") throw error;
      this.withoutPeer();
      return openSocket(AbortSignal.timeout(SOCKET_TIME));
    }
  }

  /** WebRTC does not work here: take the WebSocket from now on. */
  withoutPeer() {
    this.peerFailed = performance.now();
  }

  /** The connection stands, but no picture comes: the same by WebSocket. */
  fallBack() {
    if (this.transport !== "auto" || !this.link?.media) return;
    this.withoutPeer();
    this.drop();
    this.connect();
  }

  greet(link, attempt) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Trouble("The server does not answer.")), HELLO_TIME);
      link.onclose = (trouble) => {
        clearTimeout(timer);
        if (attempt !== this.attempt) return;
        if (this.live) this.broken(trouble);
        else reject(trouble);
      };
      link.onmessage = (data) => {
        this.lastWord = performance.now();
        const message = unpack(data);
        if (!message) return;
        if (message.kind === Kind.HELLO) {
          clearTimeout(timer);
          this.greeted(message.content);
          resolve();
        } else if (message.kind === Kind.ERROR && !this.live) {
          clearTimeout(timer);
          reject(new Refused(message.content.error, "hello"));
        } else {
          this.tell(["", "", "", "", "frame", "state", "trouble"][message.kind], message.content);
        }
      };
      const hello = { version: VERSION, options: this.options };
      if (this.portrait) hello.portrait = this.portrait;
      link.send(packJson(Kind.HELLO, hello));
    });
  }

  greeted(hello) {
    this.tries = 0;
    this.lastWord = performance.now();
    clearInterval(this.pulse);
    this.pulse = setInterval(() => this.beat(), 1000);
    this.setPhase("live", `Live by ${this.link.name}`);
    this.tell("hello", hello);
  }

  beat() {
    if (performance.now() - this.lastWord > SILENCE) {
      this.broken(new Trouble("The connection was lost."));
    } else {
      this.control({ ping: Math.round(performance.now()) });
    }
  }

  /** After a failure: say why, and when it is tried again. */
  broken(error) {
    this.drop();
    if (error instanceof Refused) {
      this.setPhase("over", error.message);
      this.tell("refused", { reason: error.reason, text: error.message });
      return;
    }
    const ours = performance.now() - this.peerFailed < 1000 * OWN_SEAT && this.peerFailed;
    if (error instanceof Full && ours) return this.later("connecting", "Connecting …", 1.5);
    if (error instanceof Full) return this.later("full", error.message, FULL_PAUSE);
    const pause = PAUSES[Math.min(this.tries++, PAUSES.length - 1)];
    this.later("retry", error instanceof Trouble ? error.message : String(error), pause);
  }

  later(phase, text, seconds) {
    this.setPhase(phase, text, seconds);
    this.timer = setTimeout(() => this.connect(), 1000 * seconds);
  }

  drop() {
    this.attempt = null;
    clearTimeout(this.timer);
    clearInterval(this.pulse);
    this.link?.close();
    this.link = null;
  }

  setPhase(phase, text, seconds = 0) {
    this.phase = phase;
    this.tell("phase", { phase, text, seconds });
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
