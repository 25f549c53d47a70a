// What went wrong, in one line for the user.

export class Trouble extends Error {}

/** All places of the server are taken. */
export class Full extends Trouble {}

/** The server has no such portrait, or speaks another version: trying again does not help. */
export class Refused extends Trouble {
  /** @param {string} text  @param {string} reason  "portrait", "version" or "origin" */
  constructor(text, reason) {
    super(text);
    this.reason = reason;
  }
}

/**
 * Ask the HTTP API.
 * @param {string} path  below the page's own address
 * @param {RequestInit} [options]
 * @returns {Promise<any>} the JSON of the answer
 * @throws {Trouble} with the server's own line
 */
export async function api(path, options) {
  let answer;
  try {
    answer = await fetch(new URL(path, document.baseURI), options);
  } catch {
    throw new Trouble("The server does not answer. Is sfumato serve still running?");
  }
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  const line = content.error ?? `The server answered ${answer.status} ${answer.statusText}.`;
  throw answer.status === 503 ? new Full(line) : new Trouble(line);
}
