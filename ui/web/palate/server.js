/**
 * How the browser side talks to the pack's routes: requests, pictures, news.
 *
 * Whatever goes wrong becomes an Error whose message is one sentence for the person; the request can be made again,
 * since the routes take the same answer twice without doubling it.
 */

import { api } from "/scripts/api.js";
import { say } from "./texts.js";

const LONGEST = 30_000; // milliseconds until a silent server counts as away
const GATEWAY = [502, 503, 504]; // what stands before the server answers in its place
const KEPT = 50_000; // characters; browsers refuse to keep larger requests alive (64 KB), which looks like no server

/**
 * POST a JSON body.
 *
 * @param {string} path of the route, as "/palate/answer"
 * @param {object} body
 * @returns {Promise<object>} what the server told
 * @throws {Error} with one sentence: the server's own where it gave one; `away` where there was none
 */
export async function post(path, body) {
  const sent = JSON.stringify(body);
  const response = await api
    .fetchApi(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: sent,
      keepalive: sent.length < KEPT, // an answer arrives when the page is closed right after the click, too
      signal: AbortSignal.timeout(LONGEST),
    })
    .catch(() => {
      throw silence();
    });
  const told = await response.json().catch(() => null);
  if (GATEWAY.includes(response.status) && !told?.error) throw silence();
  if (!response.ok) throw new Error(told?.error ?? say("wrong.status", { status: response.status }));
  if (told === null) throw silence();
  return told;
}

function silence() {
  return Object.assign(new Error(say("wrong.away")), { away: true });
}

/** Where a picture of the store is. */
export function imageURL(id) {
  return api.apiURL(`/palate/image/${id}`);
}

/**
 * Hear of news from the server: "palate.changed", "palate.waiting", "palate.waited", or ComfyUI's own.
 *
 * @param {string} event
 * @param {(detail: object) => void} handler
 * @returns {() => void} stops it
 */
export function on(event, handler) {
  const hear = ({ detail }) => handler(detail);
  api.addEventListener(event, hear);
  return () => api.removeEventListener(event, hear);
}
