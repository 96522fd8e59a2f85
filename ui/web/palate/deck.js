/**
 * The questions to one person that lie at one place, a node or the sidebar, and the answers on their way.
 *
 * A question is what the server tells of a pair or a batch: {offer, images, left, right, prompt, outcome, tiers, waiting,
 * deadline}; `outcome` is null while it is open. An answer counts here at once and travels behind the next question, one
 * after the other. The server knows each question by its id and takes an answer twice without doubling it, so whatever
 * happens on the way, answering again is right: while the server is away, an answer is kept (`outbox.js`) and sent again.
 */

import { Letter, resend, waiting } from "./outbox.js";
import { post } from "./server.js";
import { say } from "./texts.js";

const KEPT = 60; // decided questions that are remembered, for Undo
const MOST = 200; // ids of a request
const LATER = 150; // milliseconds: news that come together are looked into once

export class Deck {
  /**
   * @param {() => string} who whose questions these are
   * @param {() => void} changed called after every change
   * @param {(() => boolean) | null} held whether the current question must stay; given, those behind it are asked as the
   *   server says: the newest one, then those that teach most
   */
  constructor(who, changed = () => {}, held = null) {
    this.who = who;
    this.changed = changed;
    this.held = held;
    this.oldest = null; // the id of the question that the next page lies behind
    this.questions = []; // the open ones in the order in which they are asked
    this.answers = 0; // as the server counts them
    this.waits = []; // runs that wait for this person
    this.wrong = null; // one sentence
    this.missing = false; // whether it says that answers wait
    this.underway = 0;
    this.last = Promise.resolve();
  }

  get open() {
    return this.questions.filter((question) => !question.outcome);
  }

  get current() {
    return this.questions.find((question) => !question.outcome) ?? null;
  }

  /**
   * Ask these before the others.
   *
   * @param {object[]} questions
   * @param {boolean} afterCurrent leave the one that somebody is looking at where it is
   */
  put(questions, afterCurrent = false) {
    const fresh = new Set(questions.map((question) => question.offer));
    const current = afterCurrent ? this.current : null;
    const first = current && !fresh.has(current.offer) ? [current] : [];
    const others = this.questions.filter((question) => question !== first[0] && !fresh.has(question.offer));
    this.questions = [...first, ...questions.map((question) => this.find(question.offer) ?? question), ...others];
    this.forget();
    this.changed();
  }

  /** Have these behind the others, unless they are there already. */
  add(questions) {
    this.questions.push(...questions.filter((question) => !this.find(question.offer)));
    this.forget();
    this.changed();
  }

  /** Ask the open ones in this order. */
  rank(order) {
    const current = this.held?.() ? this.current : null;
    const place = (question) => {
      if (question === current || question.waiting) return -1;
      const at = order.indexOf(question.offer);
      return at < 0 ? order.length : at;
    };
    const decided = this.questions.filter((question) => question.outcome);
    this.questions = [...decided, ...this.open.sort((one, other) => place(one) - place(other))];
    this.changed();
  }

  /** The order in which the server would ask these, or none where it can't say. */
  async order(questions) {
    const offers = questions.map((question) => question.offer).slice(0, MOST);
    if (!this.held || offers.length < 2) return [];
    return (await post("/palate/order", { person: this.who(), offers }).catch(() => ({ order: [] }))).order;
  }

  /** Put the open questions in order again: what teaches most changes with every answer. */
  reorder() {
    return this.next(async () => {
      const person = this.who();
      const order = await this.order(this.open);
      if (order.length && person === this.who()) this.rank(order);
    });
  }

  /** Another person: nothing of what lies here is theirs. */
  clear() {
    this.questions = [];
    this.oldest = null;
    this.answers = 0;
    this.wrong = null;
    this.changed();
  }

  /**
   * Answer a question; the next one is the current one when this returns.
   *
   * @param {object} question
   * @param {{outcome: string, tiers?: string[][], much?: boolean | null}} answer
   *   `much`: the preferred one is much better; null where that couldn't be said
   * @param {number} seconds that it took
   */
  answer(question, answer, seconds) {
    Object.assign(question, { outcome: answer.outcome, tiers: answer.tiers ?? null });
    question.sending = (question.sending ?? 0) + 1;
    const body = { offer: question.offer, outcome: answer.outcome, seconds };
    if (answer.tiers) body.tiers = answer.tiers;
    if (typeof answer.much === "boolean") body.much = answer.much;
    const person = this.who();
    const letter = new Letter(person, "/palate/answer", body);
    const missed = () => this.miss(person);
    this.wrong = waiting(person);
    this.changed();
    return this.next(async () => {
      try {
        const told = await letter.send(missed);
        question.sending -= 1;
        if (this.missing && person === this.who()) this.wrong = null; // the server is back
        this.missing = false;
        this.take(told);
      } catch (error) {
        const told = await post("/palate/pairs", { person, offers: [question.offer] }).catch(() => null);
        this.failed(question, person, error, told);
      }
    });
  }

  /** The server is away: say how many answers wait. */
  miss(person) {
    this.missing = true;
    if (person === this.who()) this.wrong = waiting(person);
    this.changed();
  }

  /** Take the person's latest answer back, wherever it was given; its question is the current one then. */
  undo() {
    const person = this.who(); // by the time it is this one's turn, somebody else may be shown
    return this.next(async () => {
      try {
        const told = await post("/palate/undo", { person });
        if (person !== this.who()) return;
        this.wrong = told.undone ? null : say("answer.nothing");
        if (told.undone && !told.pairs.length) this.wrong = say("answer.elsewhere");
        this.take(told);
        this.put(told.pairs);
      } catch (error) {
        if (person === this.who()) this.wrong = error.message;
      }
    });
  }

  /** What the server knows of the questions here, and of others that are open; answers that a page left go first. */
  refresh() {
    return this.next(async () => {
      try {
        await resend();
        const person = this.who();
        const told = await post("/palate/pairs", { person });
        const order = await this.order(told.pairs);
        if (person !== this.who()) return;
        await this.sync();
        if (person !== this.who()) return;
        this.take(told);
        if (!this.find(this.oldest)) this.oldest = told.pairs[0]?.offer ?? null;
        this.questions.push(...told.pairs.reverse().filter(({ offer }) => !this.find(offer))); // the newest first
        this.forget();
        if (order.length) this.rank(order);
        this.changed();
      } catch (error) {
        this.wrong = waiting(this.who()) ?? error.message;
      }
    });
  }

  /** Questions as they stand now; those that are gone are left out. A server that is away leaves them as they are. */
  async fetch(questions) {
    const offers = questions.map((question) => question.offer).slice(0, MOST);
    try {
      return (await post("/palate/pairs", { person: this.who(), offers })).pairs;
    } catch (error) {
      this.wrong = waiting(this.who()) ?? error.message;
      return questions;
    }
  }

  /** News for everybody: an answer, or one that was taken back, here or elsewhere. */
  hear(told) {
    if (told.person !== this.who()) return;
    this.waits = told.waits ?? this.waits;
    const known = told.pairs.every(({ offer, outcome }) => (this.find(offer) ?? { outcome }).outcome === outcome);
    if (known && (this.underway || told.answers === this.answers)) return;
    // The news may be older than what is known here: look, once nothing is on its way.
    clearTimeout(this.later);
    this.later = setTimeout(() => this.next(() => this.sync().catch(() => {})), LATER);
  }

  find(offer) {
    return this.questions.find((question) => question.offer === offer);
  }

  async sync() {
    const known = this.questions.slice(0, MOST);
    const told = await post("/palate/pairs", { person: this.who(), offers: known.map((question) => question.offer) });
    const there = new Set(told.pairs.map((question) => question.offer));
    this.questions = this.questions.filter((one) => one.sending || there.has(one.offer) || !known.includes(one));
    this.take(told);
    this.wrong = null;
  }

  /** An answer failed: perhaps it arrived all the same, perhaps its question is gone. */
  failed(question, person, error, told) {
    question.sending -= 1;
    Object.assign(question, { outcome: null, tiers: null });
    if (told) this.take(told);
    if (told && !told.pairs.length) this.questions = this.questions.filter((other) => other !== question);
    if (!question.outcome && person === this.who()) this.wrong = error.message;
  }

  take(told) {
    if (told.person !== this.who()) return;
    this.answers = told.answers;
    this.waits = told.waits ?? [];
    for (const theirs of told.pairs) {
      const ours = this.find(theirs.offer);
      if (ours && !ours.sending) Object.assign(ours, theirs);
    }
  }

  /** One request after the other. */
  next(work) {
    this.underway += 1;
    const done = this.last.then(work).finally(() => {
      this.underway -= 1;
      this.changed();
    });
    this.last = done.catch((error) => console.error(error)); // those behind it go on
    return done;
  }

  forget() {
    const decided = this.questions.filter((question) => question.outcome && !question.sending);
    const old = new Set(decided.slice(0, Math.max(0, decided.length - KEPT)));
    this.questions = this.questions.filter((question) => !old.has(question));
  }
}
