/**
 * The pictures of a question at full size: side by side or one in the place of the other, zoomed and moved together,
 * and answered there, too.
 */

import { Buttons } from "./buttons.js";
import { element } from "./dom.js";
import { fit, grid, shape } from "./pictures.js";
import { addStyle } from "./style.js";
import { say } from "./texts.js";
import { VIEWER_STYLE } from "./viewer_style.js";
import { WHOLE, held, largest, panned, transform, zoomed } from "./zoom.js";

const STEP = 1.25; // of a key or button
const HELD = 300; // milliseconds: from here on a key was held, not tapped
const STILL = 5; // px that a click may move
const GAP = 8;
const MOVE = 80; // px, of a key
const ARROWS = { ArrowLeft: [MOVE, 0], ArrowRight: [-MOVE, 0], ArrowUp: [0, MOVE], ArrowDown: [0, -MOVE] };

export class Viewer {
  /** @param {import("./answering.js").Answering} answering whose question is shown, and who takes the answers */
  constructor(answering) {
    addStyle("viewer", VIEWER_STYLE);
    this.answering = answering;
    this.view = WHOLE;
    this.alone = null; // the place of the picture that is shown in place of the others; null: side by side
    this.fingers = new Map(); // pointer id -> {x, y}
    this.dialog = null;
  }

  get isOpen() {
    return this.dialog !== null;
  }

  open() {
    if (this.dialog) return;
    const dialog = element("dialog", "palate palate-viewer", { tabIndex: -1 });
    this.dialog = dialog;
    this.stage = element("div", "palate-stage");
    this.told = element("span", "palate-told");
    this.answers = new Buttons(this.answering, "", "full");
    this.dialog.append(this.stage, element("div", "palate-foot", {}, this.told, this.answers.root, this.tools()));
    // The browser's own Escape. A dialog tells it a moment later: by then the next one may be open.
    dialog.addEventListener("close", () => dialog === this.dialog && this.close());
    this.dialog.addEventListener("keydown", (event) => this.press(event));
    this.dialog.addEventListener("keyup", (event) => event.key === " " && this.release());
    this.dialog.addEventListener("click", (event) => this.click(event));
    for (const name of ["pointerdown", "mousedown", "wheel", "contextmenu"]) {
      this.dialog.addEventListener(name, (event) => event.stopPropagation());
    }
    this.follow();
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.dialog.focus();
    this.sizes = new ResizeObserver(() => this.layOut());
    this.sizes.observe(this.stage);
    [this.view, this.alone, this.question, this.heldSince] = [WHOLE, null, null, 0];
    this.hadOpen = this.answering.deck.current !== null;
    this.draw();
  }

  close() {
    const { dialog } = this;
    if (!dialog) return;
    this.dialog = null;
    this.sizes.disconnect();
    this.fingers.clear();
    dialog.close(); // gives the focus back
    dialog.remove();
  }

  tools() {
    const tool = (name, sign) => {
      const made = element("button", "palate-button", { type: "button", title: say(`viewer.${name}`) }, sign);
      made.setAttribute("aria-label", say(`viewer.${name}`));
      made.dataset.tool = name;
      return made;
    };
    this.percent = tool("fit", "");
    this.percent.classList.add("palate-percent");
    this.flipper = tool("flip", "");
    const tools = [tool("smaller", "−"), this.percent, tool("larger", "+"), this.flipper, tool("close", "✕")];
    return element("div", "palate-side", {}, ...tools);
  }

  /** Show what the answering component shows; after the last answer there is nothing more to see. */
  draw() {
    if (!this.dialog) return;
    const { answering } = this;
    if (this.hadOpen && !answering.deck.current) return this.close();
    if (answering.shown && answering.shown !== this.question) this.bring(answering.shown);
    this.dialog.setAttribute("aria-label", answering.question());
    this.answers.draw();
    [...this.stage.children].forEach((pane, index) => {
      const place = answering.placed.indexOf(this.question.images[index]);
      pane.toggleAttribute("data-place", place >= 0);
      if (this.question.images.length > 2) pane.lastChild.textContent = place >= 0 ? say("answer.place", { place: place + 1 }) : index + 1;
    });
    this.tick();
  }

  tick() {
    if (this.dialog) this.told.textContent = this.told.title = this.answering.prompt.textContent;
  }

  bring(question) {
    this.question = question;
    this.view = WHOLE;
    if (this.alone !== null) this.alone = 0;
    if (this.before) this.before = 0; // Space may be held: where it goes back to is of this question, too
    const pair = question.images.length === 2;
    this.stage.replaceChildren(
      ...this.answering.pictures.load(question).images.map((image, index) => {
        const label = pair ? say(`answer.${index ? "right" : "left"}`) : String(index + 1);
        const button = element("button", "", { type: "button", textContent: label, title: image.alt });
        button.dataset.index = index;
        return element("div", "palate-pane", {}, Object.assign(image.cloneNode(), { decoding: "sync" }), button);
      }),
    );
    this.layOut();
  }

  layOut() {
    if (!this.dialog || !this.question) return;
    const { clientWidth, clientHeight } = this.stage;
    const panes = [...this.stage.children];
    const sources = this.answering.pictures.load(this.question).images;
    const single = this.alone !== null;
    const place = grid(single ? 1 : panes.length, clientWidth, clientHeight, shape(sources[0]), GAP);
    panes.forEach((pane, index) => {
      const [row, column] = single ? [0, 0] : [Math.floor(index / place.columns), index % place.columns];
      pane.classList.toggle("palate-hidden", single && index !== this.alone);
      Object.assign(pane.style, {
        left: `${column * (place.width + GAP)}px`,
        top: `${row * (place.height + GAP)}px`,
        width: `${place.width}px`,
        height: `${place.height}px`,
      });
      const size = fit(shape(sources[index]), place.width, place.height);
      Object.assign(pane.firstChild.style, { width: `${size.width}px`, height: `${size.height}px` });
      pane.size = { ...size, natural: sources[index].naturalWidth || size.width };
    });
    this.room = place;
    this.look(this.view);
    this.flipper.textContent = single ? say("viewer.side_by_side") : say("viewer.in_place");
  }

  /** Have all panes show this view. */
  look(view) {
    const lead = this.stage.children[this.alone ?? 0];
    this.view = held(view, lead.size, this.room);
    for (const pane of this.stage.children) {
      pane.firstChild.style.transform = transform(held(this.view, pane.size, this.room), pane.size);
      pane.toggleAttribute("data-coarse", this.view.zoom * pane.size.width > 2 * pane.size.natural);
    }
    this.dialog.classList.toggle("palate-zoomed", this.view.zoom > 1);
    this.percent.textContent = `${Math.round((100 * this.view.zoom * lead.size.width) / lead.size.natural)} %`;
  }

  zoom(factor, pane = this.stage.children[this.alone ?? 0], point = { x: 0, y: 0 }) {
    this.look(zoomed(this.view, factor, point, pane.size, largest(pane.size.width, pane.size.natural)));
  }

  /** The whole picture, or each of its pixels as one of the screen's. */
  fitOrPixels(pane = this.stage.children[this.alone ?? 0], point = { x: 0, y: 0 }) {
    if (this.view.zoom > 1) this.look(WHOLE);
    else this.zoom(Math.max(2, pane.size.natural / pane.size.width), pane, point);
  }

  /** Show the next picture in the place of this one. */
  flip() {
    this.alone = this.alone === null ? 0 : (this.alone + 1) % this.question.images.length;
    this.layOut();
  }

  /** Side by side, or one in the place of the other. */
  toggle() {
    this.alone = this.alone === null ? 0 : null;
    this.layOut();
  }

  click(event) {
    const { tool, act, index } = event.target.closest("button")?.dataset ?? {};
    const much = event.pointerType === "touch" ? null : event.shiftKey; // a finger can't hold Shift
    if (tool === "close") this.close();
    else if (tool === "fit") this.fitOrPixels();
    else if (tool === "larger") this.zoom(STEP);
    else if (tool === "smaller") this.zoom(1 / STEP);
    else if (tool === "flip") this.toggle();
    else if (act) this.answering.act(act, much);
    else if (index !== undefined) this.answering.pick(Number(index), much);
    if (event.detail > 0) this.dialog?.focus(); // Space flips, and is no second click
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (!this.pressed(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  pressed(event) {
    const { key } = event;
    if (key === "Escape" || key.toLowerCase() === "f") return this.close(), true;
    if (event.shiftKey && ARROWS[key]) return this.pan(...ARROWS[key]), true;
    if (key === "+" || key === "=") return this.zoom(STEP), true;
    if (key === "-") return this.zoom(1 / STEP), true;
    if (key === "0") return this.fitOrPixels(), true;
    if (key === "v") return this.toggle(), true;
    if (key === " " && !event.target.matches("button:focus-visible")) return this.hold(event.repeat), true;
    if (event.shiftKey || key === " ") return false;
    return this.answering.press(key.length === 1 ? key.toLowerCase() : key, event, null); // Shift moves the pictures
  }

  pan(dx, dy) {
    this.look(panned(this.view, dx, dy, this.stage.children[this.alone ?? 0].size));
  }

  /** Space shows the other picture: for as long as it is held, or until it is tapped again. */
  hold(again) {
    if (again) return;
    this.heldSince = performance.now();
    this.before = this.alone;
    this.flip();
  }

  release() {
    if (this.heldSince && performance.now() - this.heldSince > HELD) {
      this.alone = this.before;
      this.layOut();
    }
    this.heldSince = 0;
  }

  /** Wheel, drag, two fingers and double click on the pictures. */
  follow() {
    const { stage, fingers } = this;
    const paneOf = (event) => event.target.closest(".palate-pane");
    const within = (pane, { x, y }) => {
      const box = pane.getBoundingClientRect();
      return { x: x - box.left - box.width / 2, y: y - box.top - box.height / 2 };
    };
    const at = (event) => ({ x: event.clientX, y: event.clientY });
    const onWheel = (event) => {
      event.preventDefault();
      const pane = paneOf(event);
      const lines = event.deltaMode === 1 ? 30 : 1; // px for a line
      if (pane) this.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), pane, within(pane, at(event)));
    };
    stage.addEventListener("wheel", onWheel, { passive: false });
    stage.addEventListener("dblclick", (event) => {
      const pane = paneOf(event);
      if (pane && !event.target.closest("button")) this.fitOrPixels(pane, within(pane, at(event)));
    });
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.target.closest("button") || !paneOf(event)) return;
      fingers.set(event.pointerId, at(event));
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      const before = [...fingers.values()];
      fingers.set(event.pointerId, at(event));
      const after = [...fingers.values()];
      const [from, to] = [middle(before), middle(after)];
      this.pan(to.x - from.x, to.y - from.y);
      const pane = document.elementsFromPoint(to.x, to.y).find((one) => one.matches(".palate-pane"));
      if (after.length === 2 && pane) this.zoom(apart(after) / Math.max(STILL, apart(before)), pane, within(pane, to));
    });
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, (event) => fingers.delete(event.pointerId));
    }
  }
}

function middle(points) {
  const sum = (of) => points.reduce((total, point) => total + point[of], 0) / points.length;
  return { x: sum("x"), y: sum("y") };
}

function apart([one, other]) {
  return Math.hypot(one.x - other.x, one.y - other.y);
}
