/** What was learned of a person, for the sidebar: how often they were predicted, how sure that is, what to do next. */

import { element } from "./dom.js";
import { STYLE as PLOT_STYLE, drawCurve, percent } from "./plot.js";
import { addStyle } from "./style.js";
import { say } from "./texts.js";

const STYLE = `
.palate-learned { display: flex; flex-direction: column; gap: 8px; }
.palate-figures { display: flex; flex-wrap: wrap; gap: 4px 20px; align-items: baseline; }
.palate-figure b { margin-right: 2px; font-size: 22px; font-weight: 600; letter-spacing: -0.01em; }
.palate-learned p { margin: 0; }
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
    this.root = element("div", "palate-learned", {}, this.figures, this.plot, this.advice, this.sure);
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
    this.plot.classList.toggle("palate-old", learned?.fresh === false);
    this.drawPlot();
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

function figure(number, label) {
  return element("span", "palate-figure", {}, element("b", "", { textContent: number }), ` ${label}`);
}

/** How sure the accuracy is, and how much is possible at all. */
function sureness({ low, high, ceiling }) {
  const sure = say("taste.sure", { low: percent(low), high: percent(high) });
  return (ceiling ?? null) === null ? sure : `${sure} ${say("taste.possible", { share: percent(ceiling) })}`;
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
