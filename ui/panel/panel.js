// The shell in the browser: which tab is in front, who is choosing, light or dark. Other scripts of this folder build on
// window.palate, and on window.palateKit of base.js.
(() => {
  const TABS = ["compare", "taste", "generate", "train", "share", "people"];
  const THEME = "palate-theme", TAB = "palate-tab", PERSON = "palate-person", GIVEN = "palate-given", OPEN = "palate-open";
  const ELSE = "\u0000else"; // the choice "Someone else…"; nobody can have that name
  const button = (name) => document.getElementById(`palate-tab-${name}`);
  const shown = () => document.body.dataset.tab;
  const offered = () => document.querySelector(".pl-head")?.dataset.tabs.split(" ") ?? TABS;
  const named = () => {
    const name = location.hash.slice(1);
    return offered().includes(name) ? name : offered()[0];
  };
  // What the scripts write to. Gradio builds the page when it likes, not in order, and after a reload twice.
  const PARTS = ["palate-person", "palate-stage", "palate-learned", "palate-people-rows", ...TABS.map((name) => `palate-page-${name}`)];
  const whole = () => PARTS.every((id) => document.getElementById(id));
  const ask = (path, body) => window.palateKit.ask(path, { tab: palate.tab, person: palate.person(), ...body });

  // Keys are for the page unless somebody types or moves a slider. A radio button takes no letters.
  const typing = (target, key = "") => {
    const field = target instanceof Element && target.closest("input, textarea, select, dialog, [contenteditable=true], [role=slider], [role=listbox]");
    return Boolean(field) && !(field.matches("input[type=radio], input[type=checkbox]") && key.length === 1);
  };

  /** Whether nothing can be changed here: the panel is for looking only. */
  const looking = () => document.querySelector(".pl-head")?.dataset.looking !== undefined;
  const palate = (window.palate = { typing, shown, ask, looking });

  // A tab that was duplicated begins with a copy of what the first one keeps, which is still open; it needs a key of its own.
  if (sessionStorage.getItem(OPEN)) sessionStorage.removeItem(TAB);
  const opened = () => sessionStorage.setItem(OPEN, "1");
  opened();
  addEventListener("pagehide", () => sessionStorage.removeItem(OPEN));
  addEventListener("pageshow", opened);

  // A browser tab keeps its key over a reload, so that the same pair comes back.
  const kept = (name, made) => {
    const found = sessionStorage.getItem(name) ?? made();
    sessionStorage.setItem(name, found);
    return found;
  };
  palate.tab = kept(TAB, () => crypto.randomUUID());

  /** Who is choosing in this tab: as chosen here, else as the panel was opened for, else as in the last tab. */
  palate.person = () => {
    const head = document.querySelector(".pl-head");
    const own = sessionStorage.getItem(PERSON);
    if (!head) return own ?? "";
    const { person, given } = head.dataset;
    if (given === "1" && sessionStorage.getItem(GIVEN) !== person) return person;
    return own ?? (given === "1" ? person : localStorage.getItem(PERSON)) ?? person;
  };

  const remember = (person) => {
    const { person: opened, given } = document.querySelector(".pl-head").dataset;
    sessionStorage.setItem(PERSON, person);
    if (given === "1") sessionStorage.setItem(GIVEN, opened);
    else localStorage.setItem(PERSON, person);
  };

  const listed = (people, person) => {
    const select = document.getElementById("palate-person");
    const names = [...new Set([person, ...people])];
    const options = names.map((name) => new Option(name, name, false, name === person));
    if (!palate.looking()) options.push(new Option("Someone else…", ELSE));
    select.replaceChildren(...options);
    select.value = person;
  };

  /** Show how many answers this person gave. */
  palate.count = (answers) => {
    const place = document.getElementById("palate-count");
    if (place) place.textContent = `${answers} answer${answers === 1 ? "" : "s"}`;
  };

  let chosen = null; // {person} that was chosen last; what the panel says of one before is late
  /** Answer as this person from now on. Gives whether it went well. */
  palate.use = async (person) => {
    const before = palate.person();
    const mine = (chosen = { person });
    try {
      await window.palateCompare.settled(); // answers go to whoever gave them
      if (mine !== chosen) return false;
      palate.changing = mine;
      const told = await ask("hello", { person });
      if (mine !== chosen || !whole()) return false; // without a page it is asked again once that is there
      remember(told.person);
      listed(told.people, told.person);
      palate.count(told.answers);
    } catch (error) {
      if (mine !== chosen) return false;
      const select = document.getElementById("palate-person");
      if (select) select.value = before;
      chosen = palate.changing = null;
      window.palateKit.say(error.message);
      window.palateCompare.go();
      return false;
    } finally {
      if (palate.changing === mine) palate.changing = null; // also when overtaken: who comes next waits for it
    }
    document.dispatchEvent(new CustomEvent("palate:person", { detail: palate.person() }));
    palate.refresh();
    return true;
  };

  /** Tell all that the tab in front is, so that it shows what is true now. */
  palate.refresh = () => {
    if (!whole()) return;
    document.dispatchEvent(new CustomEvent("palate:front", { detail: shown() }));
  };

  /** Bring a tab to the front. */
  palate.show = (name) => {
    if (location.hash !== `#${name}`) location.hash = name; // hashchange goes on
    else front();
  };

  const front = () => {
    const name = named();
    const changed = shown() !== name;
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
    const chosen = localStorage.getItem(THEME);
    if (chosen) document.body.classList.toggle("dark", chosen === "dark");
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const tab = target.closest("[role=tab][data-tab]");
    if (tab) palate.show(tab.dataset.tab);
    if (tab && event.detail) tab.blur(); // by mouse: arrow keys are for the pictures, not for the next tab
    if (target.closest("#palate-theme")) {
      localStorage.setItem(THEME, document.body.classList.toggle("dark") ? "dark" : "light");
    }
  });

  document.addEventListener("change", (event) => {
    if (event.target.id !== "palate-person") return;
    const name = event.target.value;
    event.target.blur(); // keys are for the pictures again
    if (name !== ELSE) return palate.use(name);
    event.target.value = palate.person();
    palate.show("people");
    document.dispatchEvent(new CustomEvent("palate:someone-else"));
  });

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const tab = target.closest("[role=tab][data-tab]");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (tab && step) {
      const all = offered(), next = all[(all.indexOf(tab.dataset.tab) + step + all.length) % all.length];
      event.preventDefault();
      event.stopImmediatePropagation();
      palate.show(next);
      button(next).focus();
    } else if (!typing(target) && offered()[Number(event.key) - 1] && !(shown() === "compare" && document.body.hasAttribute("data-digits"))) {
      palate.show(offered()[Number(event.key) - 1]);
    }
  });

  window.addEventListener("hashchange", front);
  document.addEventListener("palate:back", () => (chosen ? palate.refresh() : palate.use(palate.person())));

  const begin = () => {
    theme();
    document.body.dataset.tab = named();
    let stage = null;
    const watch = new MutationObserver(() => {
      if (document.getElementById("palate-stage") === stage || !whole()) return;
      stage = document.getElementById("palate-stage");
      document.body.toggleAttribute("data-looking", looking());
      theme();
      front();
      palate.use(chosen?.person ?? palate.person());
    });
    watch.observe(document.body, { childList: true, subtree: true });
  };
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
