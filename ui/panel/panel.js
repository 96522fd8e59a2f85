// The shell in the browser: which tab is in front, light or dark. Other scripts of this folder build on window.palate.
(() => {
  const TABS = ["compare", "taste", "generate", "share", "people"];
  const THEME = "palate-theme";
  const button = (name) => document.getElementById(`palate-tab-${name}`);
  const shown = () => document.body.dataset.tab;
  const named = () => {
    const name = location.hash.slice(1);
    return TABS.includes(name) ? name : "compare";
  };

  // Keys are for the page unless somebody types or moves a slider. A radio button takes no letters.
  const typing = (target, key = "") => {
    const field = target instanceof Element && target.closest("input, textarea, select, dialog, [contenteditable=true], [role=slider], [role=listbox]");
    return Boolean(field) && !(field.matches("input[type=radio], input[type=checkbox]") && key.length === 1);
  };

  const palate = (window.palate = { typing, shown });

  /** Tell the server's side of the tab in front that it is, so that it shows what is true now. */
  palate.refresh = () => {
    document.getElementById(`palate-front-${shown()}`)?.click();
    document.dispatchEvent(new CustomEvent("palate:front", { detail: shown() }));
  };

  /** Bring a tab to the front. */
  palate.show = (name) => {
    if (location.hash !== `#${name}`) location.hash = name; // hashchange goes on
    else front();
  };

  const front = () => {
    const name = named();
    const changed = document.body.dataset.tab !== name;
    document.body.dataset.tab = name;
    for (const other of TABS) {
      const tab = button(other);
      tab?.setAttribute("aria-selected", String(other === name));
      if (tab) tab.tabIndex = other === name ? 0 : -1;
      const page = document.getElementById(`palate-page-${other}`);
      page?.setAttribute("role", "tabpanel");
      page?.setAttribute("aria-labelledby", `palate-tab-${other}`);
    }
    if (!changed) return;
    scrollTo(0, 0);
    palate.refresh();
  };

  // Gradio follows the system; the button in the head overrules it, and is remembered.
  const theme = () => {
    const kept = localStorage.getItem(THEME);
    if (kept) document.body.classList.toggle("dark", kept === "dark");
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const tab = target.closest("[role=tab][data-tab]");
    if (tab) palate.show(tab.dataset.tab);
    if (target.closest("#palate-theme")) {
      localStorage.setItem(THEME, document.body.classList.toggle("dark") ? "dark" : "light");
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const tab = target.closest("[role=tab][data-tab]");
    const there = TABS.filter(button);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (tab && step) {
      const next = there[(there.indexOf(tab.dataset.tab) + step + there.length) % there.length];
      event.preventDefault();
      event.stopImmediatePropagation();
      palate.show(next);
      button(next).focus();
    } else if (!typing(target) && there[Number(event.key) - 1]) {
      palate.show(there[Number(event.key) - 1]);
    }
  });

  window.addEventListener("hashchange", front);

  const begin = () => {
    theme();
    document.body.dataset.tab = named();
    // Gradio builds the page when it likes: wait for the head, then for the page.
    const watch = new MutationObserver(() => {
      if (!button("compare") || !document.getElementById("palate-page-compare")) return;
      watch.disconnect();
      theme();
      front();
    });
    watch.observe(document.body, { childList: true, subtree: true });
  };
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
