/** The buttons of a question: below its pictures, and in the viewer. */

import { element } from "./dom.js";
import { say } from "./texts.js";

const PAIR = ["left", "tie", "right", "both_bad", "skip"];
const BATCH = ["both_bad", "skip", "rest"];
const SIGNS = { left: "←", right: "→", undo: "↶", full: "⤢" };
const HINTS = { left: "←", tie: "T", right: "→", both_bad: "B", skip: "S", rest: "⏎", undo: "Z", full: "F" };

/** What can be done about a question now, by button or key. */
export function namesOf({ isBatch, ordered }) {
  const answers = isBatch ? BATCH.filter((name) => name !== "rest" || ordered()) : PAIR;
  return [...answers, "undo", "full"];
}

/** What a button stands for, as the texts have it. */
function meaningOf({ isBatch, given }, name) {
  if (isBatch && name === "both_bad") return "none_good";
  if (!given) return name;
  return { [given]: "keep", skip: "later", undo: "back" }[name] ?? name;
}

/** What a button, or a picture in its place, does. */
export function titleOf(answering, name) {
  const meaning = meaningOf(answering, name);
  return say(answering.given && ["left", "right"].includes(meaning) ? "answer.instead_title" : `answer.${meaning}_title`);
}

/** Whether one does something now. */
function can({ deck, given, placed, shown }, name) {
  if (name === "undo") return Boolean(given) || placed.length > 0 || deck.answers > 0 || deck.questions.some((q) => q.outcome);
  if (name === "full") return shown !== null;
  if (name === "rest") return placed.length > 0;
  return deck.current !== null;
}

export class Buttons {
  /**
   * @param {import("./answering.js").Answering} answering whose question they are about; a click is its business
   * @param {string} className of their place
   * @param {string} without one of them
   */
  constructor(answering, className, without = "") {
    Object.assign(this, { answering, without, shown: "" });
    this.root = element("div", className);
  }

  /** Show those that the question has, and which of them do something now; anew in another language. */
  draw(anew = false) {
    const names = namesOf(this.answering).filter((name) => name !== this.without);
    const shown = names.map((name) => meaningOf(this.answering, name)).join();
    if (anew || shown !== this.shown) this.root.replaceChildren(...names.map((name) => this.button(name)));
    this.shown = shown;
    for (const button of this.root.children) button.setAttribute("aria-disabled", String(!can(this.answering, button.dataset.act)));
  }

  button(name) {
    const key = name === this.answering.given ? HINTS.rest : HINTS[name];
    const hint = titleOf(this.answering, name);
    const plain = name === "undo" || name === "full";
    const made = element("button", `palate-button${plain ? " palate-plain" : ""}`, { type: "button" });
    made.title = `${hint} (${key})`;
    made.setAttribute("aria-label", hint);
    made.dataset.act = made.dataset.outcome = name;
    if (plain) made.append(SIGNS[name]);
    else made.append(element("span", "", { textContent: say(`answer.${meaningOf(this.answering, name)}`) }), element("kbd", "palate-key", { textContent: key }));
    return made;
  }
}
