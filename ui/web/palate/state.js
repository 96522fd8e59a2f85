/**
 * What the sidebar knows, of one person at a time: their undecided questions, what was learned, who else is there, and
 * the graphs that wait for a choice. Emits "change" whenever something differs.
 */

import { Deck } from "./deck.js";
import { on, post } from "./server.js";

const CHOSEN = "Palate.Person"; // in this browser's storage
const SOMEBODY = "me"; // whose name the node has by default
const FEW = 12; // questions left here when the next page is fetched
const AGAIN = 1500; // milliseconds until a report that is still being computed is asked for again
const LATER = 1000; // milliseconds after a run until others' questions are looked for
const MOST = 200; // ids of a request; a run that waits for more is asked about the rest afterwards
const CALM = 200; // milliseconds: news that come together are followed once

export class State extends EventTarget {
  constructor() {
    super();
    this.person = localStorage.getItem(CHOSEN);
    this.people = []; // {person, answers, waiting}
    this.deck = new Deck(
      () => this.person,
      () => this.changed(),
      () => this.inUse(),
    );
    this.inUse = () => false; // whether somebody looks at the question that is shown
    this.more = false; // whether the server thinks of further questions when there are none
    this.behind = 0; // undecided questions that were not fetched yet
    this.learned = null; // what /palate/state told; null until then
    this.waits = []; // runs that wait for somebody: {offers, person, deadline, ...}
    this.wrong = null; // one sentence
    this.ready = false; // whether this person's questions were fetched
  }

  /** Undecided questions of this person. */
  get waiting() {
    return this.deck.open.length + this.behind;
  }

  /** The run that waits for a choice: this person's before anybody's. */
  get wait() {
    return this.waits.find(({ person }) => person === this.person) ?? this.waits[0] ?? null;
  }

  /** Fetch everything and follow the news. */
  start() {
    on("palate.changed", (told) => this.hear(told));
    on("palate.waiting", (wait) => this.paused(wait));
    on("palate.waited", ({ offers }) => this.released(offers));
    on("executed", ({ output }) => output?.palate_pairs?.length && this.asked(output));
    on("status", () => this.soon("look", () => this.look(), LATER)); // a run, perhaps another page's, began or ended
    on("reconnected", () => this.refresh());
    return this.refresh();
  }

  /** Show another person. */
  async choose(person) {
    if (person === this.person) return;
    localStorage.setItem(CHOSEN, person);
    this.person = person;
    this.ready = false;
    this.behind = 0;
    this.learned = null;
    this.more = false;
    this.deck.clear();
    await this.refresh();
  }

  /** Everything again; whoever has questions is shown where nobody was chosen yet. */
  async refresh() {
    await this.guard(async () => {
      await this.findPeople();
      this.person ??= (this.people.find(({ waiting }) => waiting) ?? this.people[0])?.person ?? SOMEBODY;
      const { person } = this;
      await this.deck.refresh();
      await this.count();
      if (person === this.person) this.ready = true; // else it goes on for who was chosen meanwhile
    });
    this.learn();
  }

  /** Ask now what a run waits for. */
  async bring({ person, offers }) {
    if (person !== this.person) return this.choose(person);
    await this.guard(async () => {
      const { pairs } = await post("/palate/pairs", { person, offers: offers.slice(0, MOST) });
      if (person === this.person) this.deck.put(pairs.filter(({ outcome }) => !outcome));
    });
  }

  /** One more question about pictures that were asked about before, and another one after each answer. */
  async askMore() {
    if (this.thinking) return;
    this.thinking = true;
    this.more = true;
    await this.guard(async () => {
      const { person } = this;
      const { pairs } = await post("/palate/more", { person }).catch((error) => {
        this.more = false;
        throw error;
      });
      if (person === this.person) this.deck.add(pairs);
    });
    this.thinking = false;
  }

  /** Forget the question that is shown; it won't be asked again. */
  async withdraw(question) {
    this.more = false; // nor another one thought of
    await this.guard(async () => {
      await post("/palate/withdraw", { offer: question.offer });
      this.deck.questions = this.deck.questions.filter((other) => other !== question);
    });
  }

  /** Write a file into ComfyUI's output folder; returns its name there, or null with the reason in `wrong`. */
  async export(format) {
    let name = null;
    await this.guard(async () => {
      const { file, subfolder } = await post("/palate/export", { person: this.person, format });
      name = subfolder ? `${subfolder}/${file}` : file;
    });
    return name;
  }

  /** Whether others published questions. */
  async look() {
    const before = this.waiting;
    try {
      await this.count();
    } catch {
      return; // nobody asked for it; whoever answers is told
    }
    if (this.waiting !== before) await this.refresh();
    else if (!this.learned?.likes) this.learn(); // a run of Fit Taste says more
    this.changed();
  }

  hear(told) {
    this.note(told.person, told.open, told.answers);
    if (told.person !== this.person) return this.soon("people", () => this.findPeople());
    this.waits = [...this.waits.filter(({ person }) => person !== told.person), ...(told.waits ?? [])];
    if (told.withdrawn) {
      this.deck.questions = this.deck.questions.filter(({ offer }) => offer !== told.withdrawn);
    }
    this.deck.hear(told);
    this.soon("learn", () => this.learn());
    if (this.behind && this.deck.open.length < FEW) this.fetchMore();
    if (this.more && !this.waiting) this.askMore();
    this.changed();
  }

  /** A run published questions. */
  asked(output) {
    const person = output.palate_person?.[0];
    if (person && person !== this.person && !this.waiting) return this.choose(person);
    if (person && person !== this.person) return this.soon("people", () => this.findPeople());
    this.soon("asked", () => this.refresh());
  }

  paused(wait) {
    this.waits = [...this.waits.filter((other) => !same(other.offers, wait.offers)), wait];
    if (wait.person === this.person) {
      this.deck.put(wait.pairs.filter(({ outcome }) => !outcome), true);
    } else if (!this.waiting) {
      this.choose(wait.person);
    }
    this.changed();
  }

  released(offers) {
    this.waits = this.waits.filter((wait) => !same(wait.offers, offers));
    this.soon("asked", () => this.refresh());
    this.changed();
  }

  /** What was learned, as it is now; called again while the server computes it. */
  async learn() {
    if (this.learning) {
      this.outdated = true;
      return;
    }
    this.learning = true;
    this.outdated = false;
    const { person } = this;
    try {
      const told = await post("/palate/state", { person });
      if (person === this.person) this.learned = told;
      if (told.fresh === false) this.soon("learn", () => this.learn(), AGAIN);
      else if (person === this.person) this.deck.reorder();
    } catch {
      // The answers' own requests say what is wrong; the last report stays.
    }
    this.learning = false;
    this.changed();
    if (this.outdated || person !== this.person) this.learn();
  }

  async findPeople() {
    const { people, waits } = await post("/palate/people", {});
    this.people = people;
    // Who else is waited for: this page may be younger than the run.
    const others = waits.filter(({ person }) => person !== this.person);
    this.waits = [...this.waits.filter(({ person }) => person === this.person), ...others];
    this.changed();
  }

  /** The next page, before this one is at its end. */
  async fetchMore() {
    if (this.fetching) return;
    this.fetching = true;
    await this.guard(async () => {
      const { person } = this;
      const { pairs } = await post("/palate/pairs", { person, before: this.deck.oldest });
      if (person !== this.person) return;
      this.deck.oldest = pairs[0]?.offer ?? null;
      if (pairs.length) this.deck.add(pairs.reverse());
      else await this.deck.refresh(); // the last one here is gone
      await this.count();
    });
    this.fetching = false;
  }

  async count() {
    const { person } = this;
    const told = await post("/palate/pairs", { person, offers: [] });
    if (person !== this.person) return;
    this.waits = [...this.waits.filter((wait) => wait.person !== person), ...(told.waits ?? [])];
    this.note(person, told.open, told.answers);
    this.behind = Math.max(0, told.open - this.deck.open.length - this.deck.underway);
  }

  note(person, waiting, answers) {
    const known = this.people.find((one) => one.person === person);
    if (known) Object.assign(known, { waiting, answers });
  }

  /** Do it; what goes wrong is in `wrong`, and undefined comes back. */
  async guard(work) {
    this.wrong = null;
    let done;
    try {
      done = await work();
    } catch (error) {
      this.wrong = error.message;
    }
    this.changed();
    return done;
  }

  soon(name, work, wait = CALM) {
    this.timers ??= {};
    clearTimeout(this.timers[name]);
    // Nobody asked for it: whoever does something is told what is wrong.
    this.timers[name] = setTimeout(() => Promise.resolve(work()).catch(() => {}), wait);
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function same(one, other) {
  return one.length === other.length && one.every((offer, place) => offer === other[place]);
}
