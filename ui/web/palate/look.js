/** A second look in the sidebar: how many answers look like slips, and these, one by one, in the place of what is asked. */

import { Answering } from "./answering.js";
import { element } from "./dom.js";
import { Slips } from "./slips.js";
import { addStyle } from "./style.js";
import { say } from "./texts.js";

const STYLE = `
.palate-slips { margin-top: 8px; }
.palate-tab .palate-seen { margin: 8px 0 0; }
.palate-look .palate-progress { justify-content: space-between; }
`;

export class Look {
  /**
   * @param {import("./state.js").State} state
   * @param {{begun: () => void, ended: () => void}} told of a second look's begin and end
   */
  constructor(state, { begun, ended }) {
    addStyle("look", STYLE);
    Object.assign(this, { state, begun, ended });
    this.person = null; // whose answers are looked at again
    this.slips = new Slips(
      () => this.person,
      (looked) => this.end(looked ? say("tab.looked", { count: looked }) : ""),
    );
    this.answering = new Answering(this.slips, { empty: () => "" });
    const drawAnswering = this.slips.changed;
    this.slips.changed = () => {
      drawAnswering();
      this.draw();
    };
    this.build();
  }

  build() {
    this.place = element("span", "palate-quiet");
    const question = element("b", "", { textContent: say("answer.still") });
    const head = element("div", "palate-progress", {}, question, this.place);
    this.root = element("section", "palate-ask palate-look", {}, head, this.answering.root);
    this.button = element("button", "palate-button palate-slips", { type: "button", title: say("tab.slips_title") });
    this.button.addEventListener("click", () => this.begin());
    this.told = element("p", "palate-quiet palate-seen");
    this.told.setAttribute("role", "status");
  }

  get on() {
    return this.slips.questions.length > 0;
  }

  draw() {
    const { person, learned } = this.state;
    if (this.on && person !== this.person) return this.slips.undo();
    const { current, questions } = this.slips;
    const place = { done: questions.indexOf(current) + 1, all: questions.length };
    this.place.textContent = current ? say("tab.progress", place) : "";
    const count = this.on ? 0 : (learned?.slips ?? 0);
    this.button.textContent = count ? say("tab.slips", { count }) : "";
    this.button.classList.toggle("palate-hidden", !count);
    this.told.classList.toggle("palate-hidden", !this.told.textContent);
  }

  async begin() {
    this.person = this.state.person;
    this.told.textContent = "";
    const found = await this.state.guard(() => this.slips.load());
    if (!found) return this.end(found === 0 ? say("tab.no_slips") : "");
    if (!this.on) return; // somebody else was chosen meanwhile
    this.begun();
    this.root.scrollIntoView({ block: "nearest" });
    this.answering.root.focus({ preventScroll: true });
  }

  /** Back to what is asked. */
  end(text) {
    this.told.textContent = text;
    this.ended();
    this.state.learn(); // how many there are still
    this.draw();
  }

  /** Texts in another language. */
  translate() {
    if (this.on) this.slips.undo();
    this.answering.translate();
    this.build();
  }
}
