/** The sidebar tab: the question that is next, what was learned, people, and files to keep. */

import { app } from "/scripts/app.js";
import { Answering } from "./answering.js";
import { element } from "./dom.js";
import { hasField } from "./keys.js";
import { Learned } from "./learned.js";
import { Look } from "./look.js";
import { addStyle } from "./style.js";
import { say } from "./texts.js";

const TEMPLATES = "Comfy.BrowseTemplates"; // ComfyUI's command

const STYLE = `
.palate-tab { container-type: inline-size; display: flex; flex-direction: column; height: 100%; }
.palate-body { flex: 1; min-height: 0; padding: 0 0 12px 12px; overflow: hidden auto; scrollbar-gutter: stable;
  scrollbar-width: thin; }
.palate-tab header { display: flex; flex: none; align-items: center; justify-content: space-between; gap: 8px;
  min-height: 48px; padding: 0 10px 0 12px; border-bottom: 1px solid var(--palate-line); }
.palate-tab header span { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.palate-tab h2 { margin: 0; font-size: 14px; font-weight: 600; }
.palate-tab h3 { margin: 0 0 8px; color: var(--palate-quiet); font-size: 12px; font-weight: 500; }
.palate-tab section { padding: 14px 0; }
.palate-tab section + section { border-top: 1px solid var(--palate-line); }
.palate-notice { display: flex; flex: none; align-items: center; gap: 10px; padding: 8px 12px;
  border-bottom: 1px solid var(--palate-line); background: color-mix(in srgb, var(--palate-accent) 14%, transparent); }
.palate-notice span { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.palate-progress { display: flex; align-items: center; gap: 8px; height: 18px; margin-bottom: 6px; }
.palate-progress div { flex: 1; height: 4px; border-radius: 2px; background: var(--palate-part); overflow: hidden; }
.palate-progress i { display: block; width: 0; height: 100%; border-radius: 2px; background: var(--palate-accent);
  transition: width 0.2s; }
.palate-ask .palate-pairs { height: clamp(230px, calc(54cqw + 76px), 70vh); margin: 0 -4px; width: auto; }
.palate-ask .palate-pairs:has(.palate-cell:nth-child(3)) { height: clamp(300px, calc(100cqw + 40px), 80vh); }
.palate-ask .palate-count { display: none; }
.palate-ask .palate-buttons { flex-wrap: wrap; }
@container (max-width: 310px) { .palate-ask .palate-buttons .palate-key { display: none; } /* there is room for words */
  .palate-ask .palate-buttons span { display: inline; }
  .palate-ask .palate-buttons .palate-button:not(.palate-plain) { padding: 3px 6px; font-size: 11px; } }
.palate-ask footer { display: flex; justify-content: flex-end; min-height: 26px; }
.palate-ask footer .palate-button { min-height: 24px; padding: 2px 6px; font-size: 12px; }
.palate-nothing { display: flex; flex-direction: column; align-items: flex-start; gap: 10px; }
.palate-nothing p, .palate-files p { margin: 0; }
.palate-pairs:not(.palate-hidden) ~ .palate-nothing { margin-top: 10px; }
.palate-people { display: flex; flex-direction: column; gap: 2px; margin: 0 -6px; }
.palate-person { justify-content: space-between; padding: 4px 6px; background: none; text-align: left; }
.palate-person[aria-current="true"] { background: var(--palate-part); font-weight: 600; }
.palate-person span:first-child { flex: 1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.palate-person small { flex: none; color: var(--palate-quiet); font-size: 12px; font-weight: 400; }
.palate-person small.palate-many { padding: 1px 7px; border-radius: 9px; color: var(--palate-text); font-size: 11px;
  background: color-mix(in srgb, var(--palate-accent) 30%, transparent); }
.palate-files { display: flex; flex-wrap: wrap; gap: 6px; }
.palate-files h3, .palate-files p { flex: 1 1 100%; }
.palate-files h3 { margin-bottom: 2px; }
.palate-files p { overflow-wrap: anywhere; }
`;

export class Tab {
  /** @param {import("./state.js").State} state */
  constructor(state) {
    addStyle("tab", STYLE);
    this.state = state;
    this.saved = null; // what the last export said
    this.start = null; // {person, answers} when this person's sitting began
    this.answering = new Answering(state.deck, { empty: () => "" });
    state.inUse = () => this.answering.inUse;
    const drawAnswering = state.deck.changed;
    state.deck.changed = () => {
      drawAnswering();
      state.changed();
    };
    this.learned = new Learned();
    this.look = new Look(state, { begun: () => this.ask.replaceWith(this.look.root), ended: () => this.askAgain() });
    this.root = element("div", "palate palate-tab");
    this.build();
    state.addEventListener("change", () => this.draw());
    // A click elsewhere means elsewhere: Backspace is the canvas's again.
    document.addEventListener("pointerdown", ({ target }) => this.leave(target), true);
  }

  build() {
    this.notice = element("div", "palate-notice");
    this.notice.setAttribute("role", "status");
    this.who = element("span", "palate-quiet");
    const header = element("header", "", {}, element("h2", "", { textContent: say("tab.title") }), this.who);
    this.wrong = element("p", "palate-wrong");
    this.wrong.setAttribute("role", "alert");
    this.bar = element("i");
    this.count = element("span", "palate-quiet");
    this.progress = element("div", "palate-progress", {}, element("div", "", {}, this.bar), this.count);
    this.dismiss = this.button(say("tab.dismiss"), () => this.withdraw(), "palate-plain");
    this.dismiss.title = say("tab.dismiss_title");
    this.foot = element("footer", "", {}, this.dismiss);
    this.nothing = element("div", "palate-nothing");
    const { root } = this.answering;
    this.ask = element("section", "palate-ask", {}, this.progress, root, this.foot, this.nothing, this.wrong);
    const { button, told } = this.look;
    const taste = element("section", "", {}, this.heading("tab.taste"), this.learned.root, button, told);
    this.list = element("div", "palate-people");
    this.people = element("section", "", {}, this.heading("tab.people"), this.list);
    this.told = element("p", "palate-quiet");
    this.told.setAttribute("role", "status");
    const save = (format) => this.button(say(`tab.save_${format}`), () => this.export(format));
    this.saves = [save("taste"), save("answers")];
    this.files = element("section", "palate-files", {}, this.heading("tab.keep"), ...this.saves, this.told);
    const body = element("div", "palate-body", {}, this.ask, taste, this.people, this.files);
    this.root.replaceChildren(header, this.notice, body);
    this.draw();
  }

  /** Into the place that ComfyUI has for it; called again for the same place. */
  show(place) {
    if (this.root.parentElement === place) return;
    place.style.height = "100%";
    place.replaceChildren(this.root);
    this.opened = true;
    this.draw();
    if (!this.state.ready) this.state.refresh(); // the server was away before
    requestAnimationFrame(() => this.draw()); // now it is on the page, and can have the focus
  }

  /** Somebody comes to answer: keys are for the question from now on. */
  turnTo() {
    return this.turn(() => {});
  }

  draw() {
    if (!this.root.parentElement) return;
    const { state } = this;
    const { current, answers, wrong } = state.deck;
    if (this.start?.person !== state.person && state.ready) this.start = { person: state.person, answers };
    this.who.textContent = this.who.title = state.person ?? "";
    this.drawNotice();
    this.answering.root.classList.toggle("palate-hidden", !this.asks(current));
    this.foot.classList.toggle("palate-hidden", !current || current.waiting);
    if (this.opened && state.ready && this.root.isConnected) this.focus(current);
    this.drawProgress();
    this.drawNothing();
    const own = this.asks(current) ? wrong : null; // the question's own line says it
    this.wrong.textContent = (state.wrong === own ? null : state.wrong) ?? (own ? null : wrong) ?? "";
    this.wrong.classList.toggle("palate-hidden", !this.wrong.textContent);
    this.learned.draw(state.learned, answers);
    this.look.draw();
    this.drawPeople();
    this.files.classList.toggle("palate-hidden", !answers);
    Object.assign(this.root.dataset, { waiting: state.waiting, answers, person: state.person ?? "" });
  }

  /** Whoever opened the tab can answer by keys at once, unless they went elsewhere in the meantime. */
  focus(question) {
    this.opened = false;
    if (question && !hasField()) this.answering.root.focus({ preventScroll: true });
  }

  /** Whether the question's place is there: also right after the last answer, so that it can be taken back. */
  asks(current) {
    return Boolean(current || this.state.deck.questions.some(({ outcome }) => outcome));
  }

  drawNotice() {
    const { wait, person, deck } = this.state;
    const here = wait?.person === person && wait?.offers.includes(deck.current?.offer);
    this.notice.classList.toggle("palate-hidden", !wait || here);
    if (!wait || here) return;
    if (this.notice.dataset.for === `${person} ${wait.person} ${wait.offers}`) return;
    this.notice.dataset.for = `${person} ${wait.person} ${wait.offers}`;
    const own = wait.person === person;
    const text = own ? say("tab.graph_next") : say("tab.graph_waits", { person: wait.person });
    const go = this.button(say("tab.answer"), () => this.turn(() => this.state.bring(wait)));
    this.notice.replaceChildren(element("span", "", { textContent: text }), go);
  }

  drawProgress() {
    const { state } = this;
    const sending = state.deck.questions.filter((one) => one.sending && one.outcome !== "skip").length;
    const done = Math.max(0, state.deck.answers + sending - (this.start?.answers ?? 0));
    const all = done + state.waiting;
    this.progress.classList.toggle("palate-hidden", !state.waiting);
    this.bar.style.width = all ? `${(100 * done) / all}%` : "0";
    this.count.textContent = say("tab.progress", { done, all });
  }

  /** What to do when there is no question. */
  drawNothing() {
    const { state } = this;
    const nothing = state.ready && !state.deck.current;
    this.nothing.classList.toggle("palate-hidden", !nothing);
    if (!nothing || this.nothing.dataset.for === `${state.deck.answers > 0}`) return;
    this.nothing.dataset.for = `${state.deck.answers > 0}`;
    const text = state.deck.answers ? say("tab.all_answered") : say("tab.empty");
    this.nothing.replaceChildren(element("p", "palate-quiet", { textContent: text }));
    if (state.deck.answers) {
      const more = this.button(say("tab.more"), () => this.turn(() => state.askMore()));
      more.title = say("tab.more_title");
      return this.nothing.append(more);
    }
    this.nothing.append(this.button(say("tab.templates"), () => app.extensionManager.command.execute(TEMPLATES)));
  }

  drawPeople() {
    const { people, person } = this.state;
    const others = people.filter((one) => one.person !== person);
    this.people.classList.toggle("palate-hidden", !others.length);
    const told = JSON.stringify([person, people]);
    if (this.list.dataset.told === told) return; // whoever is on a button stays there
    this.list.dataset.told = told;
    this.list.replaceChildren(...people.map((one) => this.personButton(one)));
  }

  personButton({ person, answers, waiting }) {
    const made = this.button("", () => this.turn(() => this.state.choose(person)), "palate-person");
    made.append(element("span", "", { textContent: person, title: person }));
    const small = (name, textContent) => element("small", name, { textContent });
    made.append(small("", say("answer.answered", { count: answers })));
    if (waiting) made.append(small("palate-many", say("answer.waiting", { count: waiting })));
    made.setAttribute("aria-current", String(person === this.state.person));
    return made;
  }

  /** What is asked, after a second look, with the keys. */
  askAgain() {
    if (!this.look.root.parentElement) return; // it may lie in a tab that is closed
    this.look.root.replaceWith(this.ask);
    this.opened = true;
    this.draw();
  }

  /** To another question, with the keys. */
  async turn(work) {
    if (this.look.on) this.look.slips.undo();
    await work();
    this.opened = true;
    this.draw();
  }

  async withdraw() {
    const { current } = this.state.deck;
    if (current) await this.state.withdraw(current);
  }

  async export(format) {
    for (const button of this.saves) button.disabled = true;
    this.told.textContent = "";
    const name = await this.state.export(format);
    this.told.textContent = name ? say("tab.saved", { file: name }) : this.state.wrong;
    this.told.classList.toggle("palate-wrong", !name);
    if (!name) this.state.wrong = null; // said here, not above
    for (const button of this.saves) button.disabled = false;
    this.state.changed();
  }

  /** Texts in another language. */
  translate() {
    delete this.nothing.dataset.for;
    this.answering.translate();
    this.learned.translate();
    this.look.translate();
    this.build();
  }

  leave(target) {
    const { root } = this.answering;
    if (root.contains(document.activeElement) && !this.root.contains(target)) document.activeElement.blur();
  }

  heading(key) {
    return element("h3", "", { textContent: say(key) });
  }

  button(text, click, name = "") {
    const made = element("button", `palate-button ${name}`, { type: "button", textContent: text });
    made.addEventListener("click", click);
    return made;
  }
}
