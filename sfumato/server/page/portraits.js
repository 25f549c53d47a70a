// The strip of portraits: choose one, add a photo, take one.

import { announce, el, make, toast } from "./dom.js";
import { askFor } from "./ears.js";
import { api } from "./trouble.js";

const MOST_BYTES = 20e6;
const CAMERA_SIDE = 1024;

export class Portraits {
  /** @param {(portrait: object) => void} onChoose */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.list = [];
    this.chosen = null; // an id
    for (const id of ["photo", "camera-file"]) {
      el(id).addEventListener("change", ({ target }) => {
        if (target.files[0]) this.add(target.files[0]);
        target.value = "";
      });
    }
    el("camera").addEventListener("click", () => this.openCamera());
    el("camera-cancel").addEventListener("click", () => el("camera-dialog").close());
    el("camera-take").addEventListener("click", () => this.takePhoto());
    el("camera-dialog").addEventListener("close", () => this.closeCamera());
  }

  /** Ask the server which there are. */
  async load() {
    this.list = (await api("api/portraits")).portraits;
    if (!this.list.some(({ id }) => id === this.chosen)) this.chosen = null;
    this.show();
  }

  /** The session shows this one. */
  mark(id) {
    const portrait = this.list.find((each) => each.id === id);
    if (!portrait) return;
    this.chosen = id;
    this.show();
    return portrait;
  }

  show() {
    el("strip").replaceChildren(...this.list.map((portrait) => this.tile(portrait)));
    const warnings = this.list.find(({ id }) => id === this.chosen)?.warnings ?? [];
    el("warnings").hidden = !warnings.length;
    el("warnings").replaceChildren(...warnings.map((text) => make("li", {}, text)));
  }

  tile(portrait) {
    const radio = make("input", {
      type: "radio", name: "portrait", value: portrait.id, checked: portrait.id === this.chosen,
    });
    radio.addEventListener("change", () => this.choose(portrait));
    const picture = make("img", { src: new URL(portrait.picture, document.baseURI), alt: "" });
    return make("label", {}, radio, picture, make("span", {}, portrait.name));
  }

  choose(portrait) {
    this.chosen = portrait.id;
    announce(`${portrait.name} is chosen`);
    this.onChoose(portrait);
    // The strip stays, so that the keyboard's place in it does too.
    const warnings = portrait.warnings;
    el("warnings").hidden = !warnings.length;
    el("warnings").replaceChildren(...warnings.map((text) => make("li", {}, text)));
  }

  /** Send a photo; the portrait that the server makes of it is chosen. */
  async add(photo) {
    if (photo.size > MOST_BYTES) {
      toast(`${photo.name} is larger than 20 MB: choose a smaller photo.`);
      return;
    }
    const busy = make("div", { className: "busy" }, "Looking …");
    el("strip").append(busy);
    busy.scrollIntoView({ block: "nearest", inline: "end" });
    announce("The photo is being prepared");
    const body = new FormData();
    body.append("photo", photo);
    try {
      const portrait = await api("api/portraits", { method: "POST", body });
      await this.load();
      this.mark(portrait.id);
      this.choose(this.list.find(({ id }) => id === portrait.id) ?? portrait);
    } catch (error) {
      toast(error.message);
    }
    busy.remove();
  }

  async openCamera() {
    if (!navigator.mediaDevices?.getUserMedia) {
      el("camera-file").click(); // the phone's own camera
      return;
    }
    try {
      const video = { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 960 } };
      this.camera = await askFor({ video }, "The camera");
    } catch (error) {
      toast(error.message);
      return;
    }
    el("camera-view").srcObject = this.camera;
    el("camera-view").play().catch(() => {});
    el("camera-dialog").showModal();
    el("camera-take").focus();
  }

  closeCamera() {
    for (const track of this.camera?.getTracks() ?? []) track.stop();
    this.camera = null;
    el("camera-view").srcObject = null;
  }

  async takePhoto() {
    const view = el("camera-view");
    const side = Math.min(view.videoWidth, view.videoHeight);
    if (!side) return; // it shows nothing yet
    const size = Math.min(side, CAMERA_SIDE);
    const canvas = make("canvas", { width: size, height: size });
    const [left, top] = [(view.videoWidth - side) / 2, (view.videoHeight - side) / 2];
    canvas.getContext("2d").drawImage(view, left, top, side, side, 0, 0, size, size);
    el("camera-dialog").close();
    const photo = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    this.add(new File([photo], "camera.jpg", { type: "image/jpeg" }));
  }
}
