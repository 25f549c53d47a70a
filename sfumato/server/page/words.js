// Words that are not spoken into the microphone: a recording, or text for a voice of the server.

import { announce, clock, el, make, toast } from "./dom.js";
import { Feeder, decode } from "./recording.js";
import { api } from "./trouble.js";

export class Words {
  /**
   * @param {Session} session
   * @param {() => void} onBegin  these words are about to be spoken
   */
  constructor(session, onBegin) {
    this.session = session;
    this.onBegin = onBegin;
    this.feeder = null;
    el("speech-file").addEventListener("change", ({ target }) => {
      if (target.files[0]) this.play(target.files[0]);
      target.value = "";
    });
    el("say").addEventListener("submit", (event) => {
      event.preventDefault();
      this.say();
    });
    el("text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.say();
    });
  }

  /** Show the text field where the server has a voice. */
  async loadVoices() {
    const { voices, default: usual } = await api("api/voices");
    el("say").hidden = !voices.length;
    const options = voices.map(({ name, label }) => make("option", { value: name }, label));
    el("voice").replaceChildren(...options);
    el("voice").value = voiceFor(navigator.language, voices) ?? usual;
  }

  /** Speak a recording. */
  async play(file) {
    if (!this.ready()) return;
    let samples;
    try {
      samples = await decode(file);
    } catch (error) {
      toast(error.message);
      return;
    }
    if (!this.ready()) return;
    this.stop();
    this.onBegin();
    this.feeder = new Feeder(this.session, samples);
    announce(`${file.name} is being spoken`);
    this.timer = setInterval(() => this.show(file.name), 250);
    this.show(file.name);
  }

  show(name) {
    const left = this.feeder.left;
    el("playing").hidden = left <= 0;
    el("playing").textContent = `${name}, ${clock(left)} left`;
    if (left <= 0) this.end();
  }

  say() {
    const text = el("text").value.trim();
    if (!text || !this.ready()) return;
    this.onBegin();
    this.session.control({ say: text, voice: el("voice").value });
    el("text").value = "";
    announce("The text is being spoken");
  }

  ready() {
    if (this.session.live) return true;
    toast("There is no connection yet: wait until the face moves.");
    return false;
  }

  /** Fall silent. */
  stop() {
    if (this.feeder) this.session.control({ interrupt: true });
    this.end();
  }

  /** Send no more. */
  end() {
    clearInterval(this.timer);
    this.feeder?.stop();
    this.feeder = null;
    el("playing").hidden = true;
  }
}

/** The voice of a language like "de-AT": its own, else of the same language elsewhere. */
function voiceFor(language, voices) {
  const wanted = language.toLowerCase();
  const [family] = wanted.split("-");
  const own = voices.find((voice) => voice.language.toLowerCase() === wanted);
  const near = voices.find((voice) => voice.language.split("-")[0].toLowerCase() === family);
  return (own ?? near)?.name;
}
