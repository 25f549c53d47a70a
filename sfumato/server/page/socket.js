// The live link by WebSocket: every frame is a message, drawn and played by player.js.

import { Full, Refused, Trouble } from "./trouble.js";

/**
 * Open the link.
 * @param {AbortSignal} signal  gives up opening
 * @returns {Promise<Link>} see rtc.js for what a link is
 */
export function openSocket(signal) {
  const address = new URL("live", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const link = {
    name: "WebSocket",
    onmessage: () => {},
    onclose: () => {},
    send: (message) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(message);
    },
    backlog: () => socket.bufferedAmount,
    close: () => {
      link.onclose = () => {};
      socket.close();
    },
    stats: async () => ({}),
  };
  socket.onmessage = ({ data }) => link.onmessage(data);
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => {
      if (socket.readyState !== WebSocket.CONNECTING) return;
      socket.close();
      reject(new Trouble("The server does not answer."));
    });
    socket.onopen = () => resolve(link);
    socket.onclose = (event) => {
      const trouble = reasonOf(event);
      reject(trouble); // without effect once it was open
      link.onclose(trouble);
    };
  });
}

function reasonOf({ code, reason }) {
  if (code === 1013) return new Full(reason || "All places of the server are taken.");
  if (code === 4004) return new Refused(reason || "The server has no such portrait.", "portrait");
  if (code === 1002) return new Refused(reason || "The server has another version.", "version");
  if (code === 1008) return new Refused(reason || "The server refuses this page.", "origin");
  return new Trouble(reason || "The connection was lost.");
}
