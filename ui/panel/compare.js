// Compare in the browser. The next pairs, or sets of four, lie here already, loaded: a click shows the next one at once,
// and the answer goes to the panel behind it. It stays in compare_outbox.js until the panel says that it is on disk.
(() => {
  const KEYS = { ArrowLeft: "left", a: "left", ArrowRight: "right", d: "right", t: "tie", b: "both_bad", x: "both_bad", s: "skip", z: "undo", u: "undo", Backspace: "undo" };
  const SIDES = ["left", "right"];
  const RETRY = 1500; // ms until a panel that doesn't answer is asked again
  const LATER = 3000; // ms until it is asked again how far the person has come, where that is being worked out
  const SOON = 250; // ms until it is asked for the pair after the next; then twice as long each time
  const LATEST = 2000; // ms, of these: what comes into a folder is seen that soon
  const picture = (id) => `palate/pictures/${encodeURIComponent(id)}`;
  const find = (selector) => document.querySelector(`#palate-stage ${selector}`);
  const pause = (time) => new Promise((go) => setTimeout(go, time));
  /** The answers that the panel doesn't have yet. */
  const outbox = () => window.palateOutbox.all();
  /** Whether a pair that wasn't seen yet must not be: the panel won't know it any more when its answer comes. */
  const holding = () => turning > 0 || window.palate.changing;

  let hand = []; // pairs that the panel handed out and nobody answered, the one on the screen first
  let seen = null; // the pair on the screen
  let since = 0; // when it could be seen, ms
  let asking = null; // the loop that sends answers and asks for pairs
  let lane = Promise.resolve(); // the request that is going on, and those that wait for it
  let turning = 0; // requests for something else to compare: what lies here is dropped by the panel
  let later = 0;
  let soon = SOON;
  let next = 0;
  let era = 0; // rises when somebody else chooses: what was asked for before is not for them
  let wanted = { prompt: "", folder: "", way: "pairs", surprise: 0 };
  const loaded = new Map(); // ticket -> {pictures, ready}

  // Pictures of a pair are loaded and decoded once, before it is shown.
  const load = (pair) => {
    if (!loaded.has(pair.ticket)) {
      const pictures = pair.images.map((id, index) => {
        const image = new Image();
        image.src = picture(id);
        image.alt = pair.images.length > 2 ? `picture ${index + 1}` : `the ${SIDES[index]} picture`;
        image.draggable = false;
        return image;
      });
      const entry = { pictures, ready: false };
      entry.done = Promise.allSettled(pictures.map((image) => image.decode())).then(() => (entry.ready = true));
      loaded.set(pair.ticket, entry);
    }
    return loaded.get(pair.ticket);
  };

  const write = (selector, text) => {
    const place = document.querySelector(selector);
    if (place && place.textContent !== text) place.textContent = text;
  };

  const wait = (text) => {
    seen = null;
    const stage = document.getElementById("palate-stage");
    if (!stage) return; // Gradio builds the page anew, and it is told then
    stage.setAttribute("aria-busy", "true");
    delete stage.dataset.ticket;
    window.palateSet.dress(null, wanted.way);
    for (const place of stage.querySelectorAll(".pl-picture")) place.replaceChildren();
    const stopped = !find(".pl-stopped")?.hidden; // nothing comes until something else is asked for
    write("#palate-prompt", stopped ? "Compare other pictures" : text || "One moment…");
  };

  const stop = (text) => {
    const place = find(".pl-stopped");
    if (!place) return;
    place.hidden = !text;
    write("#palate-stage .pl-stopped", text);
    find(".pl-pair").hidden = Boolean(text);
  };

  /** Show the first pair of the hand; `clicked` is when somebody asked for it, ms. */
  const show = async (clicked = 0, doing = "") => {
    const pair = hand[0];
    if (window.palateLook?.open()) return; // answers are looked at again
    if (!pair) return wait(doing);
    if (seen?.ticket === pair.ticket) return;
    if (holding()) return wait(""); // it is shown when that is over
    const entry = load(pair);
    if (!entry.ready) {
      if (seen) wait("One moment…");
      await entry.done;
      if (hand[0] !== pair || holding() || window.palateLook?.open()) return;
    }
    const stage = document.getElementById("palate-stage");
    if (!stage) return;
    const [ratio, ...others] = entry.pictures.map((one) => one.naturalWidth / one.naturalHeight);
    const same = others.every((other) => Math.abs(ratio - other) < 0.01);
    stage.style.setProperty("--ratio", same && ratio ? Math.min(Math.max(ratio, 0.6), 1.7).toFixed(3) : "1");
    const places = stage.querySelectorAll(".pl-picture");
    places.forEach((place, index) => place.replaceChildren(...entry.pictures.slice(index, index + 1)));
    write("#palate-prompt", pair.prompt || (wanted.folder ? "your pictures" : " "));
    seen = pair;
    window.palateSet.dress(pair, wanted.way);
    stage.removeAttribute("aria-busy");
    stage.dataset.ticket = pair.ticket;
    for (const ticket of loaded.keys()) if (!hand.some((one) => one.ticket === ticket)) loaded.delete(ticket);
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (seen !== pair) return;
      since = performance.now();
      stage.dataset.took = clicked ? (since - clicked).toFixed(1) : "";
    }));
  };

  const flash = (chosen, much) => {
    const [width, duration] = much ? ["12px", 900] : ["4px", 420]; // what Shift said is seen
    for (const card of document.querySelectorAll("#palate-stage [data-choose]")) {
      card.getAnimations().forEach((one) => one.cancel());
      if (card.dataset.choose === chosen) card.animate([{ outline: `${width} solid var(--pl-accent)` }, { outline: `${width} solid transparent` }], { duration, easing: "ease-in" });
    }
  };

  /** Answer what is on the screen; `tiers` are the pictures of a set, the best tier first, and `side` lights up. */
  const choose = (outcome, tiers, side = outcome, much = undefined) => {
    if (!seen) return;
    const clicked = performance.now();
    const seconds = since ? (clicked - since) / 1000 : null;
    window.palateOutbox.add({ ticket: seen.ticket, outcome, seconds, tiers, much });
    hand = hand.filter((pair) => pair.ticket !== seen.ticket);
    flash(side, much);
    show(clicked);
    talk();
  };

  const take = (told) => {
    window.palateOutbox.drop(told.done ?? []);
    const sent = new Set(outbox().map((answer) => answer.ticket));
    hand = told.pairs.filter((pair) => !sent.has(pair.ticket));
    hand.forEach(load);
    wanted = told.wanted;
    window.palate.count(told.answers);
    const broken = told.broken ? ` · skipped ${told.broken} file${told.broken === 1 ? "" : "s"} that can't be read` : "";
    const count = told.answers === 1 ? "1 answer" : `${told.answers} answers`;
    const latest = told.share === 1 ? told.live.curve.at(-1) : undefined; // the number that the plot ends with
    const advised = told.live.advice && told.share > 0; // below the plot: one voice is enough
    const progress = latest ? `your taste foresees ${Math.round(100 * latest[1])}\u00a0% of the latest` : advised ? "" : told.progress;
    const way = told.answers ? `${count}${progress ? `: ${progress}` : ""}` : progress;
    write("#palate-status", told.problem || way + broken);
    find(".pl-meter")?.classList.toggle("pl-there", Boolean(advised));
    find(".pl-meter i")?.style.setProperty("width", `${100 * told.share}%`);
    stop(hand.length ? "" : told.stopped);
    document.dispatchEvent(new CustomEvent("palate:told", { detail: told }));
    clearTimeout(later);
    if (told.answers && !told.progress) later = setTimeout(() => window.palate.shown() === "compare" && talk(), LATER);
    return told;
  };

  // One request at a time: what the panel says of the pairs is true after this one, and an answer to an earlier request
  // can never bring back a pair that was answered since. What somebody wanted who no longer chooses here isn't asked.
  const ask = (path, body, from = era) => {
    const asked = lane.then(async () => {
      if (from !== era) return null;
      const told = await window.palate.ask(path, body());
      return from === era ? take(told) : null; // null: it was about somebody who no longer chooses here
    });
    lane = asked.catch(() => {});
    return asked;
  };

  // Whether somebody looks at the last pair here, or at a folder without any more, which may get new pictures.
  const hungry = () => (hand.length === 1 || (!hand.length && Boolean(wanted.folder))) && window.palate.shown() === "compare" && !document.hidden;
  // While one request runs, answers gather for the next one.
  const talk = () => {
    if (window.palate.changing || window.palate.looking()) return Promise.resolve(); // a panel for looking only asks nothing
    asking ??= (async () => {
      for (let first = true; first || outbox().length || !hand.length; first = false) {
        let told;
        try {
          told = await ask("compare", () => ({ answers: outbox(), waiting: !hand.length }));
          if (!told) continue;
        } catch (error) {
          const { length } = outbox();
          const waiting = length ? ` ${length} answer${length === 1 ? " waits" : "s wait"} here and will be stored.` : "";
          write("#palate-status", `${error.message}${waiting}`);
          await pause(RETRY);
          continue;
        }
        if (told.problem) await pause(RETRY);
        await show(0, told.doing);
        if (told.stopped && !hand.length && !outbox().length) break;
      }
    })().finally(() => {
      asking = null;
      clearTimeout(next); // one at a time
      if (!hungry()) soon = SOON;
      else {
        next = setTimeout(() => hungry() && talk(), soon);
        soon = Math.min(2 * soon, LATEST); // of a folder it may be the last pair
      }
    });
    return asking;
  };

  /** Wait until all answers are stored and all requests over: what comes next is about a state that the panel must know. */
  const settled = async () => {
    const unsent = () => outbox().length > 0 && !window.palate.looking(); // a panel for looking only takes none
    for (let before = null; asking || unsent() || before !== lane; ) {
      before = lane;
      await (asking ?? (!unsent() ? before : window.palate.changing ? pause(SOON) : talk()));
    }
  };

  const undo = async () => {
    const from = era;
    await settled();
    try {
      const told = await ask("undo", () => ({}), from);
      if (told && !told.undone) window.palateKit.say("There is no answer to take back.");
      await show();
    } catch (error) {
      window.palateKit.say(error.message);
    }
  };

  const act = (name, much = undefined) => {
    if (window.palateLook?.act(name)) return;
    if (name === "undo") undo();
    else if (seen?.images.length === 2 && ["left", "right"].includes(name)) choose(name, undefined, name, much);
    else if (!seen || seen.images.length === 2 || !["left", "right", "tie"].includes(name)) choose(name);
  };

  /** Ask the panel for other pictures, or for another way of asking. Gives what it told, null when it is for nobody. */
  const want = async (wish) => {
    const from = era;
    await settled();
    const other = Number(Object.keys(wish).some((name) => name !== "surprise")); // only then are these pairs dropped
    turning += other;
    if (other) wait("");
    try {
      return await ask("wanted", () => wish, from);
    } finally {
      turning -= other;
      await show();
      talk();
    }
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const card = target.closest("#palate-stage [data-choose]");
    if (card && (event.detail === 0 || !window.palateHands.held())) {
      const much = event.pointerType === "touch" ? undefined : event.shiftKey; // a finger can't hold Shift
      if (seen?.images.length > 2 && !window.palateLook?.open()) window.palateSet.pick(card.dataset.choose, much);
      else act(card.dataset.choose, much);
    }
    const answer = target.closest("#palate-stage [data-answer]");
    if (answer) act(answer.dataset.answer);
  });
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.isComposing || window.palate.shown() !== "compare") return;
    if (window.palate.typing(event.target, event.key)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key !== "z" || event.shiftKey) return;
      event.preventDefault();
      act("undo");
    } else if (window.palateSet.key(key, event)) {
      event.preventDefault();
    } else if (KEYS[key] && (!event.shiftKey || ["left", "right"].includes(KEYS[key])) && !(event.target.closest?.("[role=tab]") && key.startsWith("Arrow"))) {
      event.preventDefault();
      act(KEYS[key], event.shiftKey);
    }
  });

  document.addEventListener("palate:person", () => {
    era += 1;
    hand = [];
    wait("");
    talk();
  });
  document.addEventListener("palate:front", (event) => event.detail === "compare" && hand.length < 2 && talk());
  document.addEventListener("visibilitychange", () => hungry() && talk());
  document.addEventListener("palate:back", () => {
    const broken = [...loaded.values()].flatMap(({ pictures }) => pictures).filter((image) => image.complete && !image.naturalWidth);
    for (const image of broken) image.src = picture(decodeURIComponent(image.src.split("/").at(-1))); // what the panel didn't give
  });
  const ready = () => hand.filter((pair) => loaded.get(pair.ticket)?.ready).length;
  /** Leave the stage to something else, and take it up again where it was. */
  const leave = () => (seen = null);
  const again = () => {
    wait("");
    show();
    talk();
  };
  const go = async () => {
    await show();
    talk();
  };
  window.palateCompare = { choose, act, want, settled, ready, leave, again, go, ask, way: () => wanted.way, wanted: () => wanted };
})();
