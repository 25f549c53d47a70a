// Puts the page together: who hears of what.

import { DelayMeter } from "./delay.js";
import { announce, el, setIcon, toast } from "./dom.js";
import { Ears } from "./ears.js";
import { Figures } from "./figures.js";
import { Microphone } from "./microphone.js";
import { Portraits } from "./portraits.js";
import { Recordings } from "./recordings.js";
import { Session } from "./session.js";
import { Stage } from "./stage.js";
import { Steering } from "./steer.js";
import { Words } from "./words.js";

const CHUNK = 20; // ms of sound in one piece of the microphone
const UNSEEN = 60000; // ms after which a page that nobody sees gives its place back

const transport = new URLSearchParams(location.search).get("transport");
const session = new Session(["webrtc", "websocket"].includes(transport) ? transport : "auto");
const meter = new DelayMeter();
const stage = new Stage(
  (frame) => microphone.on && meter.said(frame.samples, performance.now()),
  () => session.fallBack(),
);
const figures = new Figures(session, stage, meter);
const recordings = new Recordings(session);
const portraits = new Portraits((portrait) => {
  stage.setStill(new URL(portrait.picture, document.baseURI), portrait.name);
  session.control({ portrait: portrait.id });
});
const words = new Words(session, () => microphone.close());
const microphone = new Microphone(
  (samples) => {
    session.sound(samples);
    meter.heard(samples, performance.now() - CHUNK);
  },
  (on) => {
    if (on) words.stop();
    showSound();
    listenToFace();
  },
);
new Steering((options) => session.control({ options }));

// Whether the face is heard: not while the microphone would hear it, unless the user wants it.
const sounds = { microphone: false, words: true };
const source = () => (microphone.on ? "microphone" : "words");

function showSound() {
  const audible = sounds[source()];
  stage.setAudible(audible);
  el("sound").setAttribute("aria-pressed", String(audible));
  setIcon(el("sound"), audible ? "sound" : "sound-off");
}

el("sound").addEventListener("click", () => {
  sounds[source()] = !sounds[source()];
  showSound();
  announce(sounds[source()] ? "The face is heard" : "The face is silent");
});

// To measure the delay, the sound of a video is listened to as well.
let faceEars = null;

async function listenToFace() {
  faceEars?.close();
  faceEars = null;
  meter.reset();
  const [track] = session.link?.media?.getAudioTracks() ?? [];
  if (!microphone.on || !track) return;
  const own = new MediaStream([track.clone()]); // closing the ears stops what they hear
  faceEars = await Ears.on(own, (samples) => meter.said(samples, performance.now() - CHUNK));
}

el("stop").addEventListener("click", () => {
  words.end();
  microphone.close();
  session.control({ interrupt: true });
  announce("Stopped");
});

el("again").addEventListener("click", () => session.start());

session.addEventListener("phase", ({ detail }) => {
  stage.setPhase(detail);
  el("connection").dataset.phase = detail.phase;
  const short = { retry: "Not connected", full: "All places are taken", over: "Not connected" };
  el("connection-text").textContent = short[detail.phase] ?? detail.text;
  el("stop").disabled = detail.phase !== "live";
  if (detail.phase !== "connecting") announce(detail.text);
  if (detail.phase === "live" || detail.phase === "connecting") return;
  words.end();
  recordings.lost();
  figures.reset();
  stage.end();
});

session.addEventListener("hello", ({ detail: hello }) => {
  figures.reset();
  stage.begin(hello, session.link.media);
  showSound();
  listenToFace();
  session.portrait = hello.portrait;
  const portrait = portraits.mark(hello.portrait);
  if (portrait) stage.setStill(new URL(portrait.picture, document.baseURI), portrait.name);
});

session.addEventListener("frame", ({ detail }) => stage.player.push(detail));
session.addEventListener("trouble", ({ detail }) => toast(detail.error));
session.addEventListener("state", ({ detail }) => {
  figures.heard(detail);
  recordings.heard(detail.recording);
});

// The server forgets photos in time: go on with its own portrait.
session.addEventListener("refused", async ({ detail }) => {
  if (!session.portrait || !["portrait", "hello"].includes(detail.reason)) return;
  session.portrait = null;
  toast(detail.text);
  await loadLists();
  session.start();
});

async function loadLists() {
  for (const load of [() => portraits.load(), () => words.loadVoices()]) {
    await load().catch((error) => toast(error.message));
  }
}

for (const event of ["pointerdown", "keydown"]) {
  document.addEventListener(event, () => stage.unlock(), { capture: true, passive: true });
}

// Photos and recordings may be dropped anywhere.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
for (const event of ["dragleave", "drop"]) {
  document.addEventListener(event, ({ relatedTarget }) => {
    if (!relatedTarget) document.body.classList.remove("dropping");
  });
}
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (!file) return;
  if (file.type.startsWith("image/")) portraits.add(file);
  else if (/^(audio|video)\//.test(file.type)) words.play(file);
  else toast(`${file.name} is neither a picture nor a recording.`);
});

// A page that nobody looks at and that says nothing gives its place to others.
let unseen = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(unseen);
  if (!document.hidden) {
    if (session.phase === "paused") session.start();
    return;
  }
  unseen = setTimeout(() => {
    const busy = microphone.on || words.feeder || recordings.running;
    if (session.live && !busy) session.pause("Resting while nobody looks.");
  }, UNSEEN);
});
addEventListener("online", () => session.start());
addEventListener("pagehide", () => session.pause("Resting while nobody looks."));
addEventListener("pageshow", ({ persisted }) => persisted && session.start());

await loadLists();
session.start();
