// Small helps around the document.

/** The element of an id; the page has every one that the scripts name. */
export const el = (id) => document.getElementById(id);

/** A new element: `make("li", { className: "x" }, child, "text")`. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Another icon for a button. */
export function setIcon(button, name) {
  button.querySelector("use").setAttribute("href", `#i-${name}`);
}

let hiding = 0;

/** Something the user should read: shown for a while, and read out at once. */
export function toast(text) {
  el("toast").textContent = text;
  el("toast").classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => el("toast").classList.remove("shown"), 3000 + 60 * text.length);
}

/** A change of state that is seen elsewhere: read out when there is a pause. */
export function announce(text) {
  el("announce").textContent = text;
}

/** 75.4 -> "1:15" */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
