/**
 * The widget of the Collect Pairs node: the images, and buttons for which one you prefer.
 *
 * One DOM element, last on the node, so that it works in the classic and in the Vue renderer. What was shown comes with
 * the node's output, or with the news that a run waits; after a reload the open questions come from the server. Every
 * answer is sent at once.
 */

import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";
import { Answering } from "./palate/answering.js";
import { Deck } from "./palate/deck.js";
import { on } from "./palate/server.js";
import { loadTexts, onLanguage } from "./palate/texts.js";

const NODE = "PalateCollectPairs";
const WIDTH = 400; // pixels, of a new node
const HEIGHT = 275; // pixels, of a new node's images with all that is around them
const LEAST = 260; // pixels of height
const BELOW = 18; // pixels of a node's frame below its last widget
const ORDER = "put in order";

/** What one node shows. */
class NodeQuestions {
  constructor(node) {
    this.node = node;
    this.person = null; // of the last run; the node's own widget until then
    this.deck = new Deck(() => this.who());
    this.answering = new Answering(this.deck, { ordered: () => this.value("show") === ORDER });
    this.element = this.answering.root;
    // What happens here must not drag the node, nor select or scroll what lies below it.
    for (const name of ["pointerdown", "mousedown", "dblclick", "touchstart"]) {
      this.element.addEventListener(name, (event) => event.button > 0 || event.stopPropagation(), { passive: true });
    }
    this.passOn();
    new ResizeObserver(() => this.grow()).observe(this.element);
  }

  value(name) {
    return this.node.widgets?.find((widget) => widget.name === name)?.value;
  }

  /** Whose questions these are. */
  who() {
    const slot = this.node.findInputSlot("person");
    const linked = slot >= 0 && this.node.isInputConnected(slot);
    return (linked ? this.person : this.value("person")) || this.person || "me";
  }

  /** Show what a run asked. A cached run asks again what may be answered by now. */
  async show(questions, person) {
    if (!questions?.length) return;
    this.setPerson(person ?? this.who());
    const who = this.who();
    const now = await this.deck.fetch(questions);
    if (who !== this.who()) return; // a run for somebody else ended meanwhile
    this.deck.put(now, this.answering.inUse);
    this.deck.refresh();
  }

  /** A run waits for an answer: that comes first. */
  wait(questions, person) {
    this.setPerson(person);
    for (const question of questions) {
      const known = this.deck.find(question.offer);
      if (known && !known.sending) Object.assign(known, question);
    }
    this.deck.put(questions);
  }

  /** It waits no more: answered, cancelled, or the time is over. */
  async waited(offers) {
    const ours = offers.map((offer) => this.deck.find(offer)).filter(Boolean);
    for (const question of ours) Object.assign(question, { waiting: false, deadline: null });
    if (!ours.length) return;
    this.deck.changed();
    this.deck.refresh();
  }

  setPerson(person) {
    if (this.person !== null && this.person !== person) this.deck.clear();
    this.person = person;
  }

  /**
   * The Vue renderer keeps a node's place through undo and loading, and in it the element of the node that was there
   * before; this one's belongs there.
   */
  settle() {
    if (this.element.isConnected || app.canvas.graph !== this.node.graph) return;
    const there = document.querySelector(`[data-node-id="${this.node.id}"] .palate-pairs`);
    if (there && ![...shown].some((other) => other.element === there)) there.replaceWith(this.element);
  }

  /** A Vue renderer that gives an element its least height only: take what the node, as it was resized, has left. */
  grow() {
    const rows = this.element.closest(".lg-node-widgets");
    const frame = this.element.closest("[data-node-id]");
    if (!rows || !frame || rows.style.gridTemplateRows.includes("auto")) {
      this.element.style.minHeight = "";
      return;
    }
    const [inner, outer] = [this.element.getBoundingClientRect(), frame.getBoundingClientRect()];
    const above = ((inner.top - outer.top) * frame.offsetWidth) / (outer.width || 1); // without the graph's zoom
    this.element.style.minHeight = `max(${LEAST - 20}px, calc(var(--node-height) - ${Math.round(above) + BELOW}px))`;
  }

  /** After a reload: what this person has not decided, what a run waits for here first. */
  async refresh() {
    this.settle();
    await this.deck.refresh();
    const offers = this.deck.waits.filter((wait) => nodeAt(wait.node) === this.node).flatMap((wait) => wait.offers);
    const first = offers.map((offer) => this.deck.find(offer)).filter((question) => question && !question.outcome);
    if (first.length) this.deck.put(first);
    this.settle();
  }

  /** In the classic renderer the graph lies below: the wheel and the middle button are for it. */
  passOn() {
    const classic = () => !window.LiteGraph?.vueNodesMode;
    this.element.addEventListener("wheel", (event) => {
      if (!classic()) return;
      event.preventDefault();
      app.canvas.processMouseWheel(event);
    });
    const moves = { pointerdown: "processMouseDown", pointermove: "processMouseMove", pointerup: "processMouseUp" };
    for (const [name, process] of Object.entries(moves)) {
      this.element.addEventListener(name, (event) => {
        const middle = name === "pointermove" ? (event.buttons & 4) !== 0 : event.button === 1;
        if (middle && classic()) app.canvas[process](event);
      });
    }
  }
}

/** The node that an execution id means: "7", or "3:7" for node 7 of the subgraph that node 3 is. */
function nodeAt(id) {
  const path = String(id).split(":");
  const last = path.pop();
  const graph = path.reduce((outer, part) => outer?.getNodeById(Number(part))?.subgraph, app.rootGraph ?? app.graph);
  return graph?.getNodeById(Number(last));
}

const shown = new Set();

app.registerExtension({
  name: "palate.collect",

  async setup() {
    await loadTexts();
    onLanguage(() => shown.forEach((questions) => questions.answering.translate()));
    on("palate.changed", (told) => shown.forEach((questions) => questions.deck.hear(told)));
    on("palate.waiting", (told) => nodeAt(told.node)?.palate?.wait(told.pairs, told.person));
    on("palate.waited", (told) => shown.forEach((questions) => questions.waited(told.offers)));
    api.addEventListener("reconnected", () => shown.forEach((questions) => questions.refresh()));
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const questions = new NodeQuestions(node);
    node.palate = questions;
    shown.add(questions);
    const widget = node.addDOMWidget("palate_pairs", "PALATE_PAIRS", questions.element, {
      serialize: false, // not sent with a prompt
      hideOnZoom: false,
      selectOn: [],
      getValue: () => undefined,
      setValue: () => {},
      getMinHeight: () => LEAST,
    });
    widget.serialize = false; // not saved in a workflow
    const least = node.computeSize();
    node.setSize([Math.max(node.size[0], WIDTH), Math.max(node.size[1], least[1] - LEAST + HEIGHT)]);

    const executed = node.onExecuted;
    node.onExecuted = function (output, ...rest) {
      executed?.call(this, output, ...rest);
      questions.show(output?.palate_pairs, output?.palate_person?.[0]);
    };
    const removed = node.onRemoved;
    node.onRemoved = function (...rest) {
      shown.delete(questions);
      questions.answering.stop();
      removed?.apply(this, rest);
    };
    for (const name of ["person", "show"]) {
      const other = node.widgets.find((one) => one.name === name);
      if (!other) continue;
      const changed = other.callback;
      other.callback = function (...rest) {
        changed?.apply(this, rest);
        if (name === "person") questions.deck.clear(), questions.refresh();
        else questions.answering.draw();
      };
    }
    setTimeout(() => {
      // A saved workflow has filled in the node's own values by now; its size may be of another version of the node.
      const [width, height] = node.computeSize();
      if (node.size[0] < width || node.size[1] < height) {
        node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
      }
      questions.refresh();
    }, 0);
  },
});
