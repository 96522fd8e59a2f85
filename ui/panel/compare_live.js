// Beside the pair: how well the taste is known, as a small plot that grows with each answer; and how much is left to
// variety. It is drawn when the browser has time, so that no pair waits for it, and never changes its height.
(() => {
  const kit = window.palateKit;
  const soon = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  const place = (id) => document.getElementById(id);
  const ENOUGH = 20; // answers from which steering the prompt knows enough, too
  let drawn = ""; // what the plot shows
  let latest = null;
  let moving = 0; // the slider is being moved: what the panel says of it is from before

  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  const bar = (name, share, mark) => [
    kit.make("span", { textContent: name, className: mark }),
    Object.assign(kit.make("i", { className: mark }), { style: `--share:${Math.min(Math.max(2 * share - 1, 0), 1)}` }),
    kit.make("b", { textContent: percent(share), className: mark }),
  ];
  /** Two small plots: this taste beside the average of others, and how often the left one was chosen. */
  const beside = (live) => {
    const rows = live.own === null || live.others === null ? [] : [kit.make("div", { className: "pl-versus", role: "group", "aria-label": "Choices foreseen, from a coin’s 50 % up" }, kit.make("small", { textContent: "all choices so far, foreseen by" }), ...bar("your taste", live.own, "pl-own"), ...bar("others’ average", live.others, ""))];
    if (live.left !== null) {
      const told = live.leans ? `You lean to the ${live.leans}: look at both.` : "No leaning to one side.";
      const dot = Object.assign(kit.make("i"), { style: `--at:${percent(live.left).replace("\u00a0", "")}` });
      rows.push(kit.make("div", { className: `pl-leaning${live.leans ? " pl-own" : ""}`, role: "img", title: told, "aria-label": `Left chosen in ${percent(live.left)}. ${told}` }, kit.make("small", { textContent: "you chose, so far" }), kit.make("span", { textContent: `left ${percent(live.left)}` }), dot, kit.make("span", { textContent: percent(1 - live.left) + " right" })));
      if (live.leans) rows.push(kit.make("p", { textContent: told }));
    }
    return rows;
  };

  const write = (id, text) => place(id) && place(id).textContent !== text && (place(id).textContent = text);

  const draw = () => {
    const live = latest?.live;
    const plot = place("palate-plot");
    if (!live || !plot) return;
    const wanted = JSON.stringify([live.curve, live.ceiling]);
    if (wanted !== drawn || !plot.firstChild) plot.replaceChildren(kit.plotCurve(live.curve, { ceiling: live.ceiling, width: 216, height: 112 }));
    drawn = wanted;
    write("palate-advice", live.advice || "\u00a0");
    place("palate-advice").classList.toggle("pl-enough", live.enough);
    const plots = JSON.stringify([live.own, live.others, live.left, live.leans]);
    if (place("palate-beside").dataset.drawn !== plots) place("palate-beside").replaceChildren(...beside(live));
    place("palate-beside").dataset.drawn = plots;
    place("palate-try").hidden = !live.try;
    write("palate-try", latest.answers < ENOUGH ? "Four answers already change a picture: see it" : "Paint with your taste");
    write("palate-variety", live.variety ? `What you were shown lately is ${live.variety}` : "\u00a0");
    const look = place("palate-look");
    look.hidden = !live.slips || Boolean(window.palateLook?.open());
    write("palate-look", live.slips === 1 ? "Look again at 1 answer that may be a slip" : `Look again at ${live.slips} answers that may be slips`);
    if (!moving) place("palate-surprise").value = latest.wanted.surprise;
  };

  document.addEventListener("click", (event) => event.target.closest?.("#palate-try") && kit.tryNow());
  document.addEventListener("palate:told", (event) => {
    latest = event.detail;
    soon(draw);
  });
  document.addEventListener("input", (event) => {
    if (event.target.id !== "palate-surprise") return;
    clearTimeout(moving);
    const surprise = Number(event.target.value);
    moving = setTimeout(kit.trying(async () => {
      try {
        await window.palateCompare.want({ surprise });
      } finally {
        moving = 0;
      }
    }), 300);
  });
})();
