// What the scripts of Generate and Share have in common: elements, requests, jobs, messages, and what a browser keeps.
(() => {
  const kit = (window.palateKit = {});
  const AGAIN = /^(hello|compare|jobs\/\w+)$/; // requests that do no harm when they are made twice
  const LOADS = /^(model|words|wanted)\b/; // those that may load a model, or look through a large folder, first
  const LONGEST = 30_000; // ms until a panel that is silent to one of the first counts as away
  const LIMIT = 150_000; // ms for any other; it may have been heard, and isn't made again. Of a file, without a byte that moves
  const LOADING = 900_000; // ms for those that load
  const SLOW = 20_000; // ms until it is said that one takes long
  const [SOON, LATEST] = [1500, 10_000]; // ms between two looks whether a panel that was away is back
  const AWAY = "Palate doesn't answer. Is it still running? Look at its terminal. This page goes on by itself when it is back.";
  const LONG = "Palate takes long to answer. The page goes on as soon as it does; if it doesn't, look at its terminal.";
  const LOST = "Palate doesn't answer. What you just asked for may not have been done: look, once it is back.";
  const pause = (time) => new Promise((go) => setTimeout(go, time));

  /** An element with properties, `data` and children; text is never markup. */
  kit.make = (name, properties = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key === "data") Object.assign(element.dataset, value);
      else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
      else element[key] = value;
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };

  /** The element of this name inside of another. */
  kit.part = (root, name) => root.querySelector(`[data-part="${name}"]`);

  let rest = SOON;
  let gone = null; // the loop that looks whether the panel is back
  /** The panel is away: say so, and have the page told by "palate:back" once it isn't any more. */
  const away = () => {
    gone ??= (async () => {
      for (let there = false; !there; rest = Math.min(1.5 * rest, LATEST)) {
        if (!document.querySelector(".pl-say")) kit.say(AWAY);
        await pause(rest);
        const asked = fetch("palate/api/jobs/none", { signal: AbortSignal.timeout(LONGEST) });
        there = await asked.then((response) => response.json()).then(() => true, () => false);
      }
      document.querySelector(".pl-say[data-away]")?.remove();
      gone = null;
      document.dispatchEvent(new CustomEvent("palate:back"));
    })();
  };

  /** Send a file, as slowly as it goes while anything moves, and `moved` is told; gives the text that comes back. */
  const upload = (address, file, moved) => new Promise((done, failed) => {
    const request = new XMLHttpRequest(); // which, unlike fetch, says how far it is
    let still = 0;
    const moves = () => {
      moved();
      clearTimeout(still);
      still = setTimeout(() => request.abort(), LIMIT);
    };
    request.upload.onprogress = request.upload.onload = moves;
    request.onload = () => done(request.responseText);
    request.onerror = request.onabort = failed;
    request.onloadend = () => clearTimeout(still);
    request.open("POST", address);
    request.send(file);
    moves();
  });

  /** Ask the panel, a file is sent as it is; what it can't do is an Error with its words, `away` where it gave none. */
  kit.ask = async (path, body) => {
    const [again, loads] = [AGAIN.test(path), LOADS.test(path)];
    let slow = 0;
    const patient = () => {
      clearTimeout(slow);
      if (!again) slow = setTimeout(() => kit.say(LONG), SLOW);
    };
    const request = async () => {
      const response = await fetch(`palate/api/${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: body === undefined ? {} : { "Content-Type": "application/json" },
        body: body === undefined ? body : JSON.stringify(body),
        signal: AbortSignal.timeout(again ? LONGEST : loads ? LOADING : LIMIT),
      });
      return response.json();
    };
    let answer;
    patient();
    try {
      answer = body instanceof Blob ? JSON.parse(await upload(`palate/api/${path}`, body, patient)) : await request();
      rest = SOON;
    } catch {
      away();
      throw Object.assign(new Error(again || body === undefined ? AWAY : LOST), { away: true });
    } finally {
      clearTimeout(slow);
      if (!again) document.querySelector(".pl-say[data-long]")?.remove();
    }
    if (answer.error && answer.state === undefined) throw new Error(answer.error);
    return answer;
  };

  /** Ask about a job until it is over, telling `seen` of every change. It outlasts a panel that is away for a while. */
  kit.follow = async (id, seen) => {
    for (let gap = 120; ; gap = Math.min(gap * 1.1, 500)) {
      const state = await kit.ask(`jobs/${id}`).catch((error) => (error.away ? null : Promise.reject(error)));
      if (state === null) {
        await pause(SOON);
        continue;
      }
      if (state.state === "unknown") return { state: "failed", error: "The panel was closed and opened again meanwhile, which ended this. Begin it once more." };
      seen(state);
      if (state.state !== "working") return state;
      await pause(gap);
    }
  };

  /** One quiet message at the bottom, with at most one thing to do about it. */
  kit.say = (text, action, act) => {
    document.querySelector(".pl-say")?.remove();
    const box = kit.make("div", { className: "pl-say", role: "status" }, kit.make("span", { textContent: text }));
    const go = () => (box.remove(), act());
    if (action) box.append(kit.make("button", { type: "button", textContent: action, onclick: go }));
    box.append(kit.make("button", { type: "button", className: "pl-say-close", textContent: "×", "aria-label": "Close", onclick: () => box.remove() }));
    document.body.append(box);
    if (text === AWAY) box.dataset.away = ""; // until it is back
    else if (text === LONG) box.dataset.long = ""; // until it answers
    else if (text.length < 160) setTimeout(() => box.remove(), 9000);
  };

  /** Run an async function; what goes wrong is said. */
  kit.trying = (work) => async (...given) => {
    try {
      return await work(...given);
    } catch (error) {
      kit.say(error.message);
      return undefined;
    }
  };

  kit.person = () => window.palate.person(); // "palate:person" tells when it is somebody else

  /** What this browser keeps under a name and for the person; anything may have become of it. */
  kit.kept = (name) => {
    try {
      return JSON.parse(localStorage.getItem(`palate-${name}:${kit.person()}`)) ?? {};
    } catch {
      return {};
    }
  };
  kit.keep = (name, value, person = kit.person()) => {
    try {
      localStorage.setItem(`palate-${name}:${person}`, JSON.stringify(value));
    } catch {
      // A full or forbidden storage only means that a reload forgets.
    }
  };

  /** Call back once the element is there: Gradio builds the page when it likes. */
  kit.when = (selector, ready) => {
    const look = () => {
      const found = document.querySelector(selector);
      if (found) ready(found);
      return Boolean(found);
    };
    const begin = () => {
      if (look()) return;
      const watch = new MutationObserver(() => look() && watch.disconnect());
      watch.observe(document.body, { childList: true, subtree: true });
    };
    if (document.body) begin();
    else document.addEventListener("DOMContentLoaded", begin);
  };

  kit.picture = (id) => `palate/api/gallery/${encodeURIComponent(id)}.png`;
  kit.nameOf = (source) => source.slice(source.indexOf(":") + 1).replace(/\.safetensors$/, "");
  kit.number = (value) => String(Math.round(value * 100) / 100).replace("-", "−");

  // The row below moves up under the pointer: the second click of a double click was not meant for that one.
  document.addEventListener("click", (event) => {
    if (event.detail > 1 && event.target.closest?.("[data-delete], [data-file] .pl-remove")) event.stopImmediatePropagation();
  }, true);

  let dragging = false; // something of this page: no file that is brought in
  document.addEventListener("dragstart", () => (dragging = true), true);
  document.addEventListener("dragend", () => (dragging = false), true);
  /** Whether a drag brings files from outside. */
  kit.brings = (event) => !dragging && [...(event.dataTransfer?.types ?? [])].includes("Files");

  /** Let an element be dragged out of the browser as a file; gives the element. */
  kit.dragOut = (element, address, name, kind = "application/octet-stream") => {
    element.draggable = true;
    element.addEventListener("dragstart", (event) => {
      const url = new URL(address, document.baseURI).href;
      event.dataTransfer.setData("DownloadURL", `${kind}:${name}:${url}`);
      event.dataTransfer.setData("text/uri-list", url);
    });
    return element;
  };

  /** Offer a file for download, under the server's name for it or another. */
  kit.download = (address, name = "") => kit.make("a", { href: address, download: name }).click();
})();
