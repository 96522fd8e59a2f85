// Work that takes a while, shown where its result will be: how far it is, and a way to stop it.
(() => {
  const kit = window.palateKit;

  const bar = (state) => {
    const line = kit.make("i");
    line.style.width = `${100 * state.share}%`;
    const stop = () => kit.ask(`jobs/${state.job}/stop`, {}).catch(() => {});
    return kit.make(
      "div",
      { className: "pl-working" },
      kit.make("div", { className: "pl-bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * state.share) }, line),
      kit.make("span", { role: "status", textContent: state.text || "One moment…" }),
      kit.make("button", { type: "button", className: "pl-button", textContent: "Stop", onclick: stop }),
    );
  };

  /** Follow a job in a place of the page, which is empty when it is over. Gives how it ended. */
  kit.work = async (place, told) => {
    const shown = bar(told);
    const [line, text] = [shown.querySelector("i"), shown.querySelector("[role=status]")];
    place.replaceChildren(shown);
    const seen = (state) => {
      line.style.width = `${100 * state.share}%`;
      line.parentElement.setAttribute("aria-valuenow", Math.round(100 * state.share));
      if (state.text && text.textContent !== state.text) text.textContent = state.text;
    };
    try {
      return await kit.follow(told.job, seen);
    } finally {
      if (shown.isConnected) place.replaceChildren();
    }
  };
})();
