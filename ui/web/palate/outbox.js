/**
 * Answers on their way to the server, kept in this browser until it has them: neither a server that is away nor a page
 * that is loaded anew or closed loses one.
 *
 * Each lies in the browser's storage under a key of its own, so that pages which are open side by side never write over
 * each other's. Who clicks sends it from here for as long as the page is open; what a page left behind is sent by the
 * next one. All but the first try say `again`, which the server takes only while nobody has answered since; so an answer
 * that arrived unheard, or from two pages, is there once. A server that doesn't know its question may have another store
 * than the one it is meant for: then it stays, for whoever has.
 */

import { post } from "./server.js";
import { say } from "./texts.js";

const NAME = "Palate.Kept."; // before the time of the click, and something that no other click has
const PATHS = ["/palate/answer", "/palate/look"];
const MOST = 500; // answers that are kept: a question of sixteen pictures has 1 KB, of 5 MB that browsers give
const OLDEST = 30 * 24 * 3600_000; // milliseconds that one is kept which nobody takes
const REST = [1000, 8000]; // milliseconds until a server that is away is asked again, at first and at last
const LATE = 2000; // milliseconds after the click from which on another page may have sent it

const own = new Map(); // key -> answer, of those that this page sends
const refused = new Set(); // keys of what pages left behind and this server doesn't take
let away = false; // whether the last request found no server
let sending = null; // the round of `resend` that is going on
let later = 0; // the next one

/** One answer that waits to be sent; it is kept from the start. */
export class Letter {
  /**
   * @param {string} person who answered
   * @param {string} path of the route
   * @param {object} body of the request
   */
  constructor(person, path, body) {
    Object.assign(this, { person, path, body, at: Date.now() });
    this.key = `${NAME}${this.at}.${Math.random().toString(36).slice(2)}`;
    own.set(this.key, this);
    keep(this.key, JSON.stringify({ person, path, body, at: this.at }));
  }

  /**
   * Send it, however long the server is away.
   *
   * @param {() => void} waits called whenever it was
   * @returns {Promise<object>} what the server told
   * @throws {Error} the server refuses it; it is not kept any longer then
   */
  async send(waits) {
    try {
      for (let rest = REST[0]; ; rest = Math.min(2 * rest, REST[1])) {
        const again = rest > REST[0] || Date.now() - this.at > LATE;
        try {
          return await ask(this.path, again ? { ...this.body, again } : this.body);
        } catch (error) {
          if (!error.away) throw error;
        }
        waits();
        await new Promise((go) => setTimeout(go, rest));
      }
    } finally {
      own.delete(this.key);
      drop(this.key);
    }
  }
}

/** While the server is away: how many answers of this person wait here, in words; null otherwise. */
export function waiting(person) {
  const left = [...stored()].filter(([key]) => !own.has(key) && !refused.has(key));
  const count = [...own, ...left].filter(([, answer]) => answer.person === person).length;
  return away && count ? say("wrong.kept", { count }) : null;
}

/** Send what pages left behind that are there no more; resolves after one try, and goes on by itself. */
export function resend() {
  sending ??= deliver().finally(() => (sending = null));
  return sending;
}

async function deliver() {
  for (const [key, { path, body }] of stored()) {
    // It may be of this page, refused before, or sent by another page since this round began.
    if (own.has(key) || refused.has(key) || read(key) === null) continue;
    try {
      await ask(path, { ...body, again: true });
      drop(key);
    } catch (error) {
      if (!error.away) {
        refused.add(key);
        continue;
      }
      clearTimeout(later);
      later = setTimeout(resend, REST[1]);
      return;
    }
  }
}

async function ask(path, body) {
  try {
    const told = await post(path, body);
    away = false;
    return told;
  } catch (error) {
    away = Boolean(error.away);
    throw error;
  }
}

/** What lies in the storage, the oldest first: [key, answer]. */
function stored() {
  const found = keys().map((key) => [key, parse(read(key))]);
  for (const [key, answer] of found) if (!answer) drop(key);
  return found.filter(([, answer]) => answer).sort(([, one], [, other]) => one.at - other.at);
}

/** An answer as it was written; null for anything else, and for one that is too old. */
function parse(text) {
  try {
    const { person, path, body, at } = JSON.parse(text);
    return body && PATHS.includes(path) && Date.now() - at < OLDEST ? { person, path, body, at } : null;
  } catch {
    return null;
  }
}

function keys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(NAME));
  } catch {
    return []; // a page that may store nothing keeps answers while it is open
  }
}

function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(key, text) {
  try {
    localStorage.setItem(key, text);
    keys().sort().slice(0, -MOST).forEach(drop); // all times have as many digits
  } catch {
    // A full or forbidden storage: kept while the page is open.
  }
}

function drop(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // It isn't there then.
  }
}
