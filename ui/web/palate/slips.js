/**
 * Answers that look like slips, for a second look, one after the other: a deck that `Answering` asks from.
 *
 * Choosing the same again keeps an answer, another one takes its place, Later leaves it as it is. A question of this
 * deck has `given`: what was answered.
 */

import { Letter, waiting } from "./outbox.js";
import { post } from "./server.js";

export class Slips {
  /**
   * @param {() => string} who whose answers these are
   * @param {(looked: number) => void} ended called once all were looked at, or somebody went back, with how many were
   */
  constructor(who, ended) {
    this.who = who;
    this.ended = ended;
    this.changed = () => {};
    this.questions = [];
    this.waits = [];
    this.wrong = null; // one sentence
    this.last = Promise.resolve();
  }

  get open() {
    return this.questions.filter((question) => !question.outcome);
  }

  get current() {
    return this.open[0] ?? null;
  }

  /** How many were answered so far. */
  get answers() {
    return this.questions.filter(({ outcome }) => outcome && outcome !== "skip").length;
  }

  /** Fetch them; how many there are. */
  async load() {
    const { slips } = await post("/palate/slips", { person: this.who() });
    this.wrong = null;
    this.questions = slips.map((slip) => ({ ...slip, offer: `slip ${slip.id}`, given: slip.outcome, outcome: null }));
    this.changed();
    return slips.length;
  }

  /** As `Deck.answer`; seconds are of no use here, and how much better it is was said before. */
  answer(question, { outcome }) {
    const person = this.who();
    const body = { person, id: question.id, left: question.left, before: question.given, outcome };
    const letter = outcome === "skip" ? null : new Letter(person, "/palate/look", body);
    const missed = () => {
      if (this.questions.includes(question)) this.wrong = waiting(person);
      this.changed();
    };
    question.outcome = outcome;
    this.wrong = waiting(person);
    this.changed();
    this.last = this.last.then(async () => {
      try {
        await letter?.send(missed);
        this.wrong = null;
      } catch (error) {
        question.outcome = null;
        this.wrong = error.message;
      }
      this.changed();
      if (this.questions.length && !this.current) this.undo();
    });
    return this.last;
  }

  /** Back to what was asked before. */
  undo() {
    const looked = this.answers;
    this.clear();
    this.ended(looked);
  }

  clear() {
    this.questions = [];
    this.wrong = null;
    this.changed();
  }
}
