/**
 * Asks what a deck's questions ask, by mouse, touch and keys: which of two, the best of a batch, or its order.
 *
 * Node and sidebar show this. The next pictures are loaded before they are needed, so that one question replaces the
 * other at once; whoever clicks while the pictures change under the pointer answers nothing.
 */

import { ANSWERING_STYLE } from "./answering_style.js";
import { Buttons, namesOf, titleOf } from "./buttons.js";
import { element } from "./dom.js";
import { listen } from "./keys.js";
import { Pictures, fit, grid, shape } from "./pictures.js";
import { addStyle } from "./style.js";
import { say } from "./texts.js";
import { Viewer } from "./viewer.js";

const AHEAD = 2; // questions whose pictures are loaded early
const SETTLE = 400; // milliseconds after a question came by itself, in which a click was meant for the one before
const GAP = 6; // px between pictures
const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", t: "tie", b: "both_bad", x: "both_bad", s: "skip", Enter: "rest",
  z: "undo", u: "undo", Backspace: "undo", f: "full", " ": "full",
}; // prettier-ignore

export class Answering {
  /**
   * @param {import("./deck.js").Deck} deck whose `changed` becomes this component's
   * @param {{ordered?: () => boolean, empty?: () => string}} options
   *   ordered: whether a batch is put in order; else its best is picked. empty: what to say when nothing was asked yet
   */
  constructor(deck, { ordered = () => false, empty = () => say("answer.empty") } = {}) {
    addStyle("answering", ANSWERING_STYLE);
    Object.assign(this, { deck, ordered, empty });
    this.placed = []; // ids of a batch that is being put in order, best first
    this.expected = true; // whether somebody asked for the next question
    this.shown = null; // the question whose pictures are on the screen
    this.entry = null; // these pictures
    this.since = 0; // when it came, milliseconds
    this.deafUntil = 0;
    this.pictures = new Pictures();
    this.build();
    this.viewer = new Viewer(this);
    this.stopKeys = listen(this.root, (key, event) => this.press(key, event));
    this.sizes = new ResizeObserver(() => this.layOut());
    this.sizes.observe(this.images);
    deck.changed = () => this.draw();
    this.draw();
  }

  build() {
    this.prompt = element("span", "palate-prompt");
    this.count = element("span", "palate-count");
    this.count.setAttribute("aria-live", "polite");
    this.bar = element("i");
    this.images = element("div", "palate-images");
    this.grid = element("div", "palate-grid");
    this.note = element("div", "palate-empty");
    this.images.append(this.grid, this.note);
    this.buttons = new Buttons(this, "palate-buttons");
    const head = element("div", "palate-head", {}, this.prompt, this.count);
    const clock = element("div", "palate-clock", {}, this.bar);
    this.root = element("div", "palate palate-pairs", { tabIndex: 0 }, head, clock, this.images, this.buttons.root);
    this.root.setAttribute("role", "group");
    this.root.addEventListener("click", (event) => {
      const { act, index } = event.target.closest("button")?.dataset ?? {};
      const much = event.pointerType === "touch" ? null : event.shiftKey; // a finger can't hold Shift
      if (act) this.act(act, much);
      else if (index !== undefined) this.pick(Number(index), much);
      // Keys go on working here when the pointer leaves, and Space isn't a second click on the same button.
      if (event.detail > 0) this.root.focus({ preventScroll: true });
    });
  }

  /** No more keys, no more viewer, no pictures: a page may hold on to a node for long after it was removed. */
  stop() {
    this.stopKeys();
    this.sizes.disconnect();
    clearInterval(this.ticking);
    this.viewer.close();
    this.deck.clear();
    this.deck.changed = () => {};
    this.pictures.keep([]);
  }

  /** Whether somebody is looking at the question: then another one must not take its place by itself. */
  get inUse() {
    return this.viewer.isOpen || this.root.matches(":hover") || this.root.contains(document.activeElement);
  }

  /** Whether the current question can be answered now. */
  get asking() {
    return this.shown !== null && this.shown === this.deck.current && performance.now() >= this.deafUntil;
  }

  get isBatch() {
    return ((this.deck.current ?? this.shown)?.images.length ?? 2) > 2;
  }

  /** What was answered before, where that is looked at again. */
  get given() {
    return (this.deck.current ?? this.shown)?.given ?? null;
  }

  /** Do what a button or key stands for; `much`: the preferred one is much better, null where that can't be said. */
  act(name, much = null) {
    if (name === "undo") return this.placed.length ? this.stepBack() : this.undo();
    if (name === "full") return void (this.shown && this.viewer.open());
    if (!this.asking) return;
    if (name === "rest") return this.rank([...this.placed.map((id) => [id]), this.unplaced()]);
    if (this.isBatch && !["both_bad", "skip"].includes(name)) return;
    if (this.entry.broken && name !== "skip") return;
    this.send(["left", "right"].includes(name) ? { outcome: name, much } : { outcome: name });
  }

  /** Choose a picture by its place: the preferred of two, the best, or the next best. */
  pick(index, much = null) {
    const images = this.deck.current?.images;
    if (!this.asking || !images?.[index] || this.entry.broken) return;
    if (!this.isBatch) return this.send({ outcome: index ? "right" : "left", much });
    const id = images[index];
    if (!this.ordered()) return this.rank([[id], images.filter((other) => other !== id)], much);
    if (this.placed.includes(id)) return;
    this.placed.push(id);
    const left = this.unplaced();
    if (left.length === 1) return this.rank([...this.placed, ...left].map((one) => [one]));
    this.draw();
  }

  undo() {
    this.expected = true;
    this.deck.undo();
  }

  stepBack() {
    this.placed.pop();
    this.draw();
  }

  unplaced() {
    return this.deck.current.images.filter((id) => !this.placed.includes(id));
  }

  /** `much`: the best is much better than all others; null where that couldn't be said. */
  rank(tiers, much = null) {
    if (!this.isBatch || !tiers[0]?.length || tiers.length < 2) return;
    this.send({ outcome: "ranked", tiers, much });
  }

  send(answer) {
    this.placed = [];
    this.expected = true;
    this.deck.answer(this.shown, answer, (performance.now() - this.since) / 1000);
  }

  /** A key; returns whether it means something here. `much` as in `act`. */
  press(key, event, much = event.shiftKey && !/^\d$/.test(event.key)) {
    // A French keyboard makes digits with Shift: there it says nothing more.
    const onButton = event.target.matches?.("button:focus-visible");
    if (onButton && [" ", "Enter"].includes(key)) return false; // the button's own
    const act = (this.given && { Enter: this.given, Escape: "undo" }[key]) || KEYS[key];
    if (this.isBatch && /^[1-9]$/.test(key)) {
      if (!event.repeat) this.pick(Number(key) - 1, much);
      return true;
    }
    if (!act || !namesOf(this).includes(act)) return false;
    if (event.shiftKey && !["left", "right"].includes(act)) return false;
    if (!event.repeat) this.act(act, much);
    return true;
  }

  draw() {
    const { deck } = this;
    if (this.shown && !deck.questions.includes(this.shown)) this.clear();
    const wanted = deck.current ?? this.shown ?? deck.questions.at(-1) ?? null;
    for (const question of deck.open.slice(0, AHEAD + 1)) this.pictures.load(question);
    if (wanted && (wanted !== this.shown || this.pictures.load(wanted) !== this.entry)) this.bring(wanted);
    this.mark();
    this.drawHead();
    this.buttons.draw();
    this.viewer.draw();
  }

  clear() {
    this.shown = this.entry = null;
    this.grid.replaceChildren();
  }

  /** Show a question's pictures once they are there; until then what was there stays. */
  bring(question) {
    const entry = this.pictures.load(question);
    if (!entry.ready) return void entry.done.then(() => this.draw());
    this.since = performance.now();
    if (this.shown && !this.expected) this.deafUntil = this.since + SETTLE;
    this.pictures.keep([this.shown, question, ...this.deck.open.slice(0, AHEAD + 1)]);
    Object.assign(this, { shown: question, entry, placed: [], expected: false });
    const buttons = entry.images.map((image, index) => this.picture(image, index, question));
    this.grid.replaceChildren(...buttons);
    this.layOut();
  }

  picture(image, index, question) {
    const pair = question.images.length === 2;
    const name = pair ? titleOf(this, index ? "right" : "left") : say(`answer.${this.ordered() ? "pick" : "pick_much"}`, { place: index + 1 });
    image.alt = name;
    const button = element("button", "palate-picture", { type: "button", title: name }, image);
    button.dataset.index = index;
    button.setAttribute("aria-label", name);
    if (!pair) button.append(element("b", "", { textContent: index + 1 }));
    if (question.given === (index ? "right" : "left")) button.append(element("em", "", { textContent: say("answer.given") }));
    return button;
  }

  layOut() {
    const { clientWidth, clientHeight } = this.images;
    const buttons = [...this.grid.children];
    if (!buttons.length || !clientWidth) return;
    const shapes = buttons.map((button) => shape(button.querySelector("img")));
    const place = grid(buttons.length, clientWidth, clientHeight, shapes[0], GAP);
    Object.assign(this.grid.style, { gap: `${GAP}px`, gridTemplateColumns: `repeat(${place.columns}, auto)` });
    buttons.forEach((button, index) => {
      const size = fit(shapes[index], place.width, place.height);
      Object.assign(button.style, { width: `${size.width}px`, height: `${size.height}px` });
    });
  }

  /** Which pictures were chosen so far. */
  mark() {
    const { shown } = this;
    const open = shown !== null && shown === this.deck.current;
    this.images.classList.toggle("palate-asking", open);
    this.images.setAttribute("aria-busy", String(Boolean(this.deck.current) && !open));
    this.note.classList.toggle("palate-hidden", Boolean(shown) && !this.entry?.broken);
    this.note.textContent = this.entry?.broken ? say("answer.missing") : this.empty();
    const best = shown?.tiers?.[0] ?? [{ left: shown?.images[0], right: shown?.images[1] }[shown?.outcome]];
    [...this.grid.children].forEach((button, index) => {
      const place = this.placed.indexOf(shown.images[index]);
      button.toggleAttribute("data-chosen", place >= 0 || (!open && best.includes(shown.images[index])));
      button.toggleAttribute("data-place", place >= 0);
      const badge = button.querySelector("b");
      if (badge) badge.textContent = place >= 0 ? say("answer.place", { place: place + 1 }) : index + 1;
    });
  }

  drawHead() {
    const { deck } = this;
    const current = deck.current;
    const waiting = Boolean(current?.waiting);
    this.root.classList.toggle("palate-waiting", waiting);
    this.root.setAttribute("aria-label", this.question());
    clearInterval(this.ticking);
    if (waiting && current.deadline) this.ticking = setInterval(() => this.tick(), 250);
    this.tick();
    this.prompt.classList.toggle("palate-wrong", Boolean(deck.wrong));
    const open = deck.open.length;
    const counts = [open > 1 ? say("answer.waiting", { count: open }) : "", say("answer.answered", { count: deck.answers })];
    this.count.textContent = counts.filter(Boolean).join(" · ");
    Object.assign(this.root.dataset, { open, answers: deck.answers, offer: this.shown?.offer ?? "" });
  }

  /** What the line on top says; the time that is left changes while nothing else does. */
  tick() {
    const current = this.deck.current;
    const left = current?.waiting && current.deadline ? Math.max(0, current.deadline - Date.now() / 1000) : null;
    if (left !== null) this.span = Math.max(this.timed === current.offer ? this.span : 0, left);
    this.timed = current?.offer;
    this.bar.style.width = left === null ? "0" : `${(100 * left) / this.span}%`;
    let text = this.deck.wrong ?? current?.prompt ?? "";
    if (!this.deck.wrong && current?.waiting) {
      const time = left === null ? "" : ` ${Math.floor(left / 60)}:${String(Math.floor(left % 60)).padStart(2, "0")}`;
      text = [say("answer.graph_waits") + time, current.prompt].filter(Boolean).join(" · ");
    }
    text ||= current ? this.question() : this.shown ? this.done() : "";
    if (this.prompt.textContent === text) return;
    this.prompt.textContent = this.prompt.title = text;
    this.viewer.tick();
  }

  question() {
    if (this.given) return say("answer.still");
    if (!this.isBatch) return say("answer.question");
    return say(this.ordered() ? "answer.question_order" : "answer.question_best");
  }

  done() {
    return say("answer.done");
  }

  /** Texts in another language. */
  translate() {
    this.buttons.draw(true);
    this.clear();
    this.expected = true;
    this.draw();
  }
}
