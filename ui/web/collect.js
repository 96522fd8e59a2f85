/**
 * The widget of the Collect Pairs node: two images, and buttons for which one you prefer.
 *
 * One DOM element, last on the node, so that it works in the classic and in the Vue renderer. What was shown comes with
 * the node's output; after a reload the undecided pairs come from the server. Every click is sent at once.
 */

import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";

const NODE = "PalateCollectPairs";
const MIN_WIDTH = 360; // pixels
const BESIDES = 100; // pixels: what the widget shows above and below the two square images
const OUTCOMES = [
  ["left", "◀ Left", "I prefer the left image"],
  ["tie", "Tie", "Both are equally good"],
  ["right", "Right ▶", "I prefer the right image"],
  ["both_bad", "Both bad", "I like neither"],
  ["skip", "Skip", "No answer; learn nothing from this pair"],
];
const SAID = { left: "left", right: "right", tie: "tie", both_bad: "both bad", skip: "skipped" };

const STYLE = `
.palate-pairs { display: flex; flex-direction: column; gap: 6px; box-sizing: border-box; width: 100%; min-height: 100%;
  padding: 6px; overflow: hidden; font: 12px/1.3 sans-serif; color: var(--fg-color, #ddd); }
.palate-pairs .palate-say { display: flex; justify-content: space-between; gap: 8px; min-height: 16px; }
.palate-pairs .palate-prompt { overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.palate-pairs .palate-count { flex: none; color: var(--descrip-text, #999); }
.palate-pairs .palate-images { display: flex; flex: none; gap: 6px; width: 100%; aspect-ratio: 2 / 1; }
.palate-pairs .palate-images button { flex: 1 1 0; min-width: 0; padding: 0; border: 2px solid transparent;
  border-radius: 6px; background: var(--comfy-input-bg, #222); cursor: pointer; overflow: hidden; }
.palate-pairs .palate-images img { display: block; width: 100%; height: 100%; object-fit: contain; }
.palate-pairs .palate-images button.palate-chosen { border-color: #4a9; }
.palate-pairs .palate-buttons { display: grid; grid-template-columns: repeat(3, 1fr); gap: 4px; }
.palate-pairs .palate-buttons button { padding: 4px 2px; border: 1px solid var(--border-color, #444); border-radius: 4px;
  background: var(--comfy-input-bg, #222); color: var(--input-text, #ddd); font: inherit; cursor: pointer; }
.palate-pairs button:hover:not(:disabled), .palate-pairs button:focus-visible { border-color: #4a9; outline: none; }
.palate-pairs button:disabled { opacity: 0.45; cursor: default; }
.palate-pairs .palate-wrong { color: var(--error-text, #e66); }
`;

function element(tag, className, properties = {}) {
  return Object.assign(document.createElement(tag), { className, ...properties });
}

async function post(path, body) {
  const response = await api.fetchApi(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(told.error ?? `The server answered ${response.status}.`);
  return told;
}

class PairsWidget {
  constructor(node) {
    this.node = node;
    this.pairs = []; // {offer, left, right, prompt, outcome}
    this.current = null;
    this.answers = 0;
    this.busy = false;
    this.person = null; // of the last run; the node's own widget until then
    this.root = element("div", "palate-pairs");
    this.prompt = element("span", "palate-prompt");
    this.count = element("span", "palate-count");
    const say = element("div", "palate-say");
    say.append(this.prompt, this.count);
    this.images = {};
    const images = element("div", "palate-images");
    for (const side of ["left", "right"]) {
      const button = element("button", "", { type: "button", title: `I prefer the ${side} image` });
      button.append(element("img", "", { alt: `${side} image`, draggable: false }));
      button.addEventListener("click", () => this.answer(side));
      images.append(button);
      this.images[side] = button;
    }
    this.buttons = {};
    const buttons = element("div", "palate-buttons");
    for (const [outcome, label, title] of OUTCOMES) {
      const button = element("button", "", { type: "button", textContent: label, title });
      button.dataset.outcome = outcome;
      button.addEventListener("click", () => this.answer(outcome));
      buttons.append(button);
      this.buttons[outcome] = button;
    }
    this.undoButton = element("button", "", { type: "button", textContent: "↶ Undo", title: "Take back the last answer" });
    this.undoButton.dataset.outcome = "undo";
    this.undoButton.addEventListener("click", () => this.undo());
    buttons.append(this.undoButton);
    this.root.append(say, images, buttons);
    // A click here must not drag the node or select what lies below it.
    for (const event of ["pointerdown", "mousedown", "dblclick"]) {
      this.root.addEventListener(event, (e) => e.stopPropagation());
    }
    this.draw();
  }

  /** Whose pairs these are. */
  who() {
    const own = this.node.widgets?.find((widget) => widget.name === "person");
    const linked = this.node.inputs?.find((input) => input.name === "person")?.link != null;
    return (linked ? this.person : own?.value) || this.person || "me";
  }

  /** Show what a run published; pairs of earlier runs that are still undecided stay behind them. */
  async show(pairs, person) {
    if (!pairs?.length) return;
    this.person = person ?? this.person;
    const fresh = new Set(pairs.map((pair) => pair.offer));
    const waiting = this.pairs.filter((pair) => !pair.outcome && !fresh.has(pair.offer));
    this.pairs = [...pairs, ...waiting];
    this.next();
    // A cached run publishes the pairs of the first one again, which may be answered by now.
    await this.guard(async () => this.merge(await post("/palate/pairs", { person: this.who(), offers: [...fresh] })));
    this.next();
  }

  /** After a reload: whatever this person has not decided yet, the newest first. */
  async refresh() {
    await this.guard(async () => {
      const told = await post("/palate/pairs", { person: this.who() });
      this.answers = told.answers;
      this.pairs = told.pairs.reverse();
    });
    this.next();
  }

  async answer(outcome) {
    const pair = this.current;
    if (!pair || this.busy) return;
    const seconds = (performance.now() - this.since) / 1000;
    await this.guard(async () => this.merge(await post("/palate/answer", { offer: pair.offer, outcome, seconds })));
    this.next();
  }

  async undo() {
    if (this.busy) return;
    await this.guard(async () => {
      const told = await post("/palate/undo", { person: this.who() });
      this.answers = told.answers;
      const undone = told.undone;
      const here = undone && this.pairs.find((p) => p.outcome && p.left === undone.left && p.right === undone.right);
      if (here) {
        here.outcome = null;
        this.pairs = [here, ...this.pairs.filter((pair) => pair !== here)];
      } else if (undone) {
        this.pairs = (await post("/palate/pairs", { person: this.who() })).pairs.reverse();
      }
    });
    this.next();
  }

  /** Take over what the server says about pairs that are shown here. */
  merge(told) {
    const undone = told.undone && this.pairs.find((p) => p.left === told.undone.left && p.right === told.undone.right);
    if (undone) undone.outcome = null;
    if (told.person === this.who()) this.answers = told.answers;
    for (const theirs of told.pairs ?? []) {
      const ours = this.pairs.find((pair) => pair.offer === theirs.offer);
      if (ours) ours.outcome = theirs.outcome;
    }
  }

  async guard(work) {
    this.busy = true;
    this.wrong = null;
    this.draw();
    try {
      await work();
    } catch (error) {
      this.wrong = error.message;
    }
    this.busy = false;
  }

  next() {
    const before = this.current;
    this.current = this.pairs.find((pair) => !pair.outcome) ?? null;
    if (this.current !== before) this.since = performance.now();
    this.draw();
  }

  draw() {
    const shown = this.current ?? this.pairs.at(-1);
    for (const [side, button] of Object.entries(this.images)) {
      const image = button.firstChild;
      const url = shown ? api.apiURL(`/palate/image/${shown[side]}`) : "";
      if (url && image.getAttribute("src") !== url) image.src = url;
      image.style.visibility = shown ? "visible" : "hidden";
      button.disabled = !this.current || this.busy;
      button.classList.toggle("palate-chosen", shown?.outcome === side);
    }
    for (const button of Object.values(this.buttons)) button.disabled = !this.current || this.busy;
    this.undoButton.disabled = this.busy || this.answers + this.pairs.length === 0;
    const open = this.pairs.filter((pair) => !pair.outcome).length;
    let text = "Queue to see pairs here.";
    if (this.current) text = this.current.prompt || "Which do you prefer?";
    else if (shown) text = `You said: ${SAID[shown.outcome]}. Queue for new pairs.`;
    this.prompt.textContent = this.wrong ?? text;
    this.prompt.title = this.prompt.textContent;
    this.prompt.classList.toggle("palate-wrong", Boolean(this.wrong));
    this.count.textContent = `${open ? `${open} waiting · ` : ""}${this.answers} answered`;
    this.root.dataset.answers = this.answers;
    this.root.dataset.open = open;
  }
}

const shown = new Set();

app.registerExtension({
  name: "palate.collect",

  setup() {
    document.head.append(element("style", "", { textContent: STYLE }));
    // A click in one tab or node shows in all of them.
    api.addEventListener("palate.changed", ({ detail }) => {
      for (const widget of shown) {
        if (widget.busy || detail.person !== widget.who()) continue;
        widget.merge(detail);
        widget.next();
      }
    });
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const pairs = new PairsWidget(node);
    node.palatePairs = pairs;
    shown.add(pairs);
    const widget = node.addDOMWidget("palate_pairs", "PALATE_PAIRS", pairs.root, {
      serialize: false, // not sent with a prompt
      hideOnZoom: false,
      getValue: () => undefined,
      setValue: () => {},
      getMinHeight: () => Math.round(node.size[0] / 2) + BESIDES,
    });
    widget.serialize = false; // not saved in a workflow
    node.setSize([Math.max(node.size[0], MIN_WIDTH), Math.max(node.size[1], MIN_WIDTH / 2 + 260)]);

    const executed = node.onExecuted;
    node.onExecuted = function (output, ...rest) {
      executed?.call(this, output, ...rest);
      pairs.show(output?.palate_pairs, output?.palate_person?.[0]);
    };
    const removed = node.onRemoved;
    node.onRemoved = function (...rest) {
      shown.delete(pairs);
      removed?.apply(this, rest);
    };
    const person = node.widgets.find((other) => other.name === "person");
    if (person) {
      const changed = person.callback;
      person.callback = function (...rest) {
        changed?.apply(this, rest);
        pairs.refresh();
      };
    }
    // Once a saved workflow has filled in the node's own values.
    setTimeout(() => {
      if (!pairs.pairs.length) pairs.refresh();
    }, 0);
  },
});
