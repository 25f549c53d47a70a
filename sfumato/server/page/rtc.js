// The live link by WebRTC: pictures and sound are tracks, all else goes over the data channel.
//
// A link, whatever carries it: `send(message)`, `onmessage(data)`, `onclose(trouble)`,
// `backlog()` (bytes that wait to be sent), `stats()`, `close()`, `name`, and `media` (a
// MediaStream) where frames do not come as messages.

import { Trouble, api } from "./trouble.js";

const GATHERING = 1000; // ms for our own addresses; what is late is left out
const RELAYED = 2000; // the same where a relay is asked for one
const LOST = 4000; // ms without a word from the other side

/**
 * Open the link.
 * @param {AbortSignal} signal  gives up opening
 */
export async function openPeer(signal) {
  if (typeof RTCPeerConnection === "undefined") throw new Trouble("This browser has no WebRTC.");
  const { iceServers } = await api("api/ice", { signal });
  const peer = new RTCPeerConnection({ iceServers });
  const channel = peer.createDataChannel("live");
  channel.binaryType = "arraybuffer";
  const media = new MediaStream();
  peer.ontrack = ({ track, receiver }) => {
    receiver.jitterBufferTarget = 0; // as short as the network allows
    media.addTrack(track);
  };
  for (const kind of ["audio", "video"]) peer.addTransceiver(kind, { direction: "recvonly" });
  const link = linkOf(peer, channel, media);
  try {
    await negotiate(peer, signal, iceServers.length ? RELAYED : GATHERING);
    await opened(channel, signal);
  } catch (error) {
    peer.close();
    throw error;
  }
  watch(peer, channel, link);
  return link;
}

async function negotiate(peer, signal, patience) {
  await peer.setLocalDescription();
  await gathered(peer, patience);
  const { sdp, type } = peer.localDescription;
  const answer = await api("api/live", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ sdp, type }),
    signal,
  });
  if (signal.aborted) throw new Trouble("WebRTC does not come up.");
  await peer.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
}

function gathered(peer, patience) {
  return new Promise((resolve) => {
    if (peer.iceGatheringState === "complete") return resolve();
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && resolve();
    setTimeout(resolve, patience);
  });
}

function opened(channel, signal) {
  return new Promise((resolve, reject) => {
    if (channel.readyState === "open") return resolve();
    channel.onopen = resolve;
    channel.onclose = channel.onerror = () => reject(new Trouble("WebRTC was refused."));
    signal.addEventListener("abort", () => reject(new Trouble("WebRTC does not come up.")));
  });
}

function linkOf(peer, channel, media) {
  const link = {
    name: "WebRTC",
    media,
    onmessage: () => {},
    onclose: () => {},
    send: (message) => {
      if (channel.readyState === "open") channel.send(message);
    },
    backlog: () => channel.bufferedAmount,
    close: () => {
      link.onclose = () => {};
      channel.close(); // tells the other side at once, which closing the peer alone does not
      peer.close();
    },
    stats: figures(peer),
  };
  channel.onmessage = ({ data }) => link.onmessage(data);
  return link;
}

function watch(peer, channel, link) {
  let timer = 0;
  const lost = () => {
    clearTimeout(timer);
    peer.close();
    link.onclose(new Trouble("The connection was lost."));
  };
  channel.onclose = channel.onerror = lost;
  peer.onconnectionstatechange = () => {
    clearTimeout(timer);
    if (peer.connectionState === "failed") lost();
    if (peer.connectionState === "disconnected") timer = setTimeout(lost, LOST);
  };
}

/** Asks what the browser counts: pictures dropped so far, and how long they have waited of late. */
function figures(peer) {
  let before = { waited: 0, count: 0 };
  return async () => {
    const found = {};
    for (const report of (await peer.getStats()).values()) {
      if (report.type !== "inbound-rtp" || report.kind !== "video") continue;
      const now = { waited: report.jitterBufferDelay, count: report.jitterBufferEmittedCount };
      found.dropped = report.framesDropped ?? 0;
      found.waited = (now.waited - before.waited) / Math.max(1, now.count - before.count);
      before = now;
    }
    return found;
  };
}
