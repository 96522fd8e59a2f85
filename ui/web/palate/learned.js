/** What was learned of a person, for the sidebar: how often they were predicted, in words and pictures, what to do next. */

import { element } from "./dom.js";
import { STYLE as PLOT_STYLE, drawCurve, percent } from "./plot.js";
import { imageURL } from "./server.js";
import { addStyle } from "./style.js";
import { say } from "./texts.js";

const STYLE = `
.palate-learned { display: flex; flex-direction: column; gap: 8px; }
.palate-figures { display: flex; flex-wrap: wrap; gap: 4px 20px; align-items: baseline; }
.palate-figure b { margin-right: 2px; font-size: 22px; font-weight: 600; letter-spacing: -0.01em; }
.palate-learned p { margin: 0; }
.palate-strip { display: flex; gap: 4px; }
.palate-strip img { flex: 1 1 0; min-width: 0; aspect-ratio: 1; object-fit: cover; border-radius: 4px; }
.palate-ends { display: flex; align-items: center; gap: 8px; margin-top: 4px; color: var(--palate-quiet);
  font-size: 11px; }
.palate-ends i { flex: 1; height: 2px; border-radius: 1px;
  background: linear-gradient(90deg, var(--palate-line), var(--palate-accent)); }
.palate-words { display: flex; flex-direction: column; gap: 6px; }
.palate-words ul { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: baseline; margin: 0; padding: 0;
  list-style: none; line-height: 1.3; }
.palate-words li { font-size: calc(13px + 7px * var(--much)); font-weight: 600; }
.palate-words li.palate-light { color: var(--palate-quiet); font-weight: 400; }
.palate-words h4 { margin: 0; color: var(--palate-quiet); font-size: 11px; font-weight: 500; }
.palate-learned .palate-small { font-size: 11px; }
.palate-old { opacity: 0.6; transition: opacity 0.3s; }
`;

export class Learned {
  constructor() {
    addStyle("plot", PLOT_STYLE);
    addStyle("learned", STYLE);
    this.figures = element("div", "palate-figures");
    this.plot = element("div");
    this.advice = element("p");
    this.sure = element("p", "palate-quiet");
    this.strip = element("div", "palate-strip", { role: "group" });
    this.ends = element("div", "palate-ends", { ariaHidden: "true" });
    this.words = element("div", "palate-words");
    const pictures = element("div", "", {}, this.strip, this.ends);
    const parts = [this.figures, this.plot, this.advice, this.words, pictures, this.sure];
    this.root = element("div", "palate-learned", {}, ...parts);
    this.sizes = new ResizeObserver(() => this.drawPlot());
    this.sizes.observe(this.plot);
  }

  /**
   * @param {object | null} learned what /palate/state told
   * @param {number} answers that this person gave, the newest count
   */
  draw(learned, answers) {
    if (learned === this.learned && answers === this.answers) return;
    Object.assign(this, { learned, answers });
    const known = learned?.verdict === "few" ? null : (learned?.accuracy ?? null);
    const counted = figure(String(answers), say("taste.answers", { count: answers }));
    this.figures.replaceChildren(counted);
    if (known !== null) this.figures.append(figure(percent(known), say("taste.accuracy")));
    this.sure.textContent = known === null ? "" : sureness(learned);
    this.advice.textContent = advice(learned, answers);
    for (const line of [this.advice, this.sure]) line.classList.toggle("palate-hidden", !line.textContent);
    for (const part of [this.plot, this.words, this.strip]) part.classList.toggle("palate-old", learned?.fresh === false);
    this.drawPlot();
    this.drawWords();
    this.drawStrip();
  }

  /** What is liked and what is not, as a vocabulary says it: stronger ones larger, light ones likely only. */
  drawWords() {
    const { likes, dislikes } = this.learned ?? {};
    const rows = [["likes", likes], ["dislikes", dislikes]].filter(([, words]) => words?.length); // prettier-ignore
    const lists = rows.flatMap(([name, words]) => [
      element("h4", "", { textContent: say(`taste.${name}`) }),
      element("ul", `palate-${name}`, {}, ...words.map(word)),
    ]);
    if (rows.some(([, words]) => words.some(({ sure }) => !sure))) {
      lists.push(element("p", "palate-quiet palate-small", { textContent: say("taste.light_words") }));
    }
    if (this.learned?.strip && !likes) { // enough is known for words, but none were read yet
      lists.push(element("p", "palate-quiet palate-small", { textContent: say("taste.no_words") }));
    }
    this.words.replaceChildren(...lists);
    this.words.classList.toggle("palate-hidden", !lists.length);
  }

  /** Pictures from "not me" to "me". */
  drawStrip() {
    const images = this.learned?.strip ?? [];
    const told = JSON.stringify([images, say("taste.strip")]);
    if (told === this.stripped) return; // made anew at each answer they would blink
    this.stripped = told;
    const label = (place) => say("taste.strip_place", { place: place + 1, count: images.length });
    const shown = images.map((id, place) => {
      const picture = element("img", "", { src: imageURL(id), alt: label(place), title: label(place) });
      picture.onerror = () => picture.remove(); // deleted since
      return picture;
    });
    this.strip.ariaLabel = say("taste.strip");
    this.strip.replaceChildren(...shown);
    const end = (textContent) => element("span", "", { textContent });
    this.ends.replaceChildren(end(say("taste.not_me")), element("i"), end(say("taste.me")));
    for (const part of [this.strip, this.ends]) part.classList.toggle("palate-hidden", !images.length);
  }

  drawPlot() {
    const { curve, ceiling, accuracy } = this.learned ?? {};
    this.plot.classList.toggle("palate-hidden", !curve?.length);
    const width = Math.round(this.plot.clientWidth);
    if (!curve?.length || !width) return;
    const [answers] = curve.at(-1);
    const label = say("taste.plot", { count: answers, accuracy: percent(accuracy ?? curve.at(-1)[1]) });
    this.plot.replaceChildren(drawCurve(curve, ceiling, width, { label, ceiling: say("taste.ceiling") }));
  }

  /** Texts in another language. */
  translate() {
    const { learned, answers } = this;
    this.answers = null;
    this.draw(learned, answers);
  }
}

function word({ word: textContent, sure, much }) {
  const made = element("li", sure ? "" : "palate-light", { textContent });
  made.style.setProperty("--much", much.toFixed(2));
  return made;
}

function figure(number, label) {
  return element("span", "palate-figure", {}, element("b", "", { textContent: number }), ` ${label}`);
}

/** How sure the accuracy is, how much is possible, what the average of others would foresee, a side that is preferred. */
function sureness({ low, high, ceiling, stranger_accuracy: others, left_share: left, left_interval: sides }) {
  const [least, most] = sides ?? [0, 1];
  const said = [say("taste.sure", { low: percent(low), high: percent(high) })];
  if ((ceiling ?? null) !== null) said.push(say("taste.possible", { share: percent(ceiling) }));
  if ((others ?? null) !== null) said.push(say("taste.others", { share: percent(others) }));
  if (least > 0.5) said.push(say("taste.leans_left", { share: percent(left) }));
  if (most < 0.5) said.push(say("taste.leans_right", { share: percent(1 - left) }));
  return said.join(" ");
}

function advice(learned, answers) {
  if (!answers) return say("taste.nothing");
  if (!learned) return "";
  if (!learned.encoder) return say("taste.unseen");
  if (learned.verdict === "enough") return say("taste.enough");
  if (learned.verdict === "nothing") return say("taste.nothing_clear");
  if (learned.verdict === "unproven") return say("taste.unproven", { count: learned.worth });
  if (learned.worth) return say("taste.more", { count: learned.worth });
  return say("taste.few");
}
