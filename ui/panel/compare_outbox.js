// Answers of Compare that the panel doesn't have yet. They outlive their page: whichever page opens next sends them, and
// the panel, which knows each by its pair's ticket, stores it once.
(() => {
  const NAME = "palate-outbox";
  let answers = []; // {ticket, outcome, seconds, tiers, much}, in the order of the clicks

  const keep = () => {
    const own = `${NAME}:${window.palate.tab}`;
    try {
      if (answers.length) localStorage.setItem(own, JSON.stringify(answers));
      else localStorage.removeItem(own);
    } catch {
      // A full or forbidden storage: they are kept while the page is open.
    }
  };

  /** Take what other pages left behind. */
  const inherit = () => {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(`${NAME}:`));
    const found = names.flatMap((name) => {
      try {
        return JSON.parse(localStorage.getItem(name));
      } catch {
        return []; // no answers of ours
      }
    });
    const ours = found.filter((answer) => answer?.ticket);
    answers = [...new Map(ours.map((answer) => [answer.ticket, answer])).values()]; // a copied page's are there twice
    names.forEach((name) => localStorage.removeItem(name));
    keep();
  };

  /** Keep one that was just given. */
  const add = (answer) => {
    answers.push(answer);
    keep();
  };

  /** The panel has these. */
  const drop = (tickets) => {
    answers = answers.filter(({ ticket }) => !tickets.includes(ticket));
    keep();
  };

  // Whoever closes the page right after a click has answered all the same.
  addEventListener("pagehide", () => {
    if (!answers.length || window.palate.looking()) return;
    const body = JSON.stringify({ tab: window.palate.tab, person: window.palate.person(), answers });
    fetch("palate/api/leaving", { method: "POST", headers: { "Content-Type": "application/json" }, body, keepalive: true }).catch(() => {});
  });

  inherit();
  window.palateOutbox = { all: () => answers, add, drop };
})();
