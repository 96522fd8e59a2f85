// Beside the pair: how well the taste is known, as a small plot that grows with each answer; and how much is left to
// variety. It is drawn when the browser has time, so that no pair waits for it, and never changes its height.
(() => {
  const kit = window.palateKit;
  const soon = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  const place = (id) => document.getElementById(id);
  let drawn = ""; // what the plot shows
  let latest = null;
  let moving = 0; // the slider is being moved: what the panel says of it is from before

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
    write("palate-variety", live.variety ? `What you were shown lately is ${live.variety}` : "\u00a0");
    const look = place("palate-look");
    look.hidden = !live.slips || Boolean(window.palateLook?.open());
    write("palate-look", live.slips === 1 ? "Look again at 1 answer that may be a slip" : `Look again at ${live.slips} answers that may be slips`);
    if (!moving) place("palate-surprise").value = latest.wanted.surprise;
  };

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
