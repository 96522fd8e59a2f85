// What the scripts of Generate and Share have in common: elements, requests, jobs, messages, and what a browser keeps.
(() => {
  const kit = (window.palateKit = {});
  const AGAIN = ["hello", "compare"]; // requests that do no harm when they are made twice
  const LONGEST = 30_000; // ms until a panel that is silent to one of these counts as away
  const SLOW = 20_000; // ms until it is said that another one takes long; it may have been heard, and isn't made again

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

  /** Ask the panel; what it can't do is an Error with its words. */
  kit.ask = async (path, body, method) => {
    const raw = body instanceof Blob;
    const again = AGAIN.includes(path);
    const long = () => kit.say("The panel takes long to answer. It goes on as soon as it does; if not, look at the terminal.");
    const slow = again || body === undefined ? 0 : setTimeout(long, SLOW);
    let answer;
    try {
      const response = await fetch(`palate/api/${path}`, {
        method: method ?? (body === undefined ? "GET" : "POST"),
        headers: body === undefined || raw ? {} : { "Content-Type": "application/json" },
        body: body === undefined || raw ? body : JSON.stringify(body),
        signal: again ? AbortSignal.timeout(LONGEST) : undefined,
      });
      answer = await response.json();
    } catch {
      throw new Error("The panel doesn't answer. Is it still running? Look at the terminal, then reload this page.");
    } finally {
      clearTimeout(slow);
    }
    if (answer.error && answer.state === undefined) throw new Error(answer.error);
    return answer;
  };

  /** Ask about a job until it is over, telling `seen` of every change. */
  kit.follow = async (id, seen) => {
    for (let pause = 120; ; pause = Math.min(pause * 1.1, 500)) {
      const state = await kit.ask(`jobs/${id}`);
      if (state.state === "unknown") return { state: "failed", error: "The panel was closed and opened again meanwhile, which ended this. Begin it once more." };
      seen(state);
      if (state.state !== "working") return state;
      await new Promise((go) => setTimeout(go, pause));
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
    if (text.length < 160) setTimeout(() => box.remove(), 9000);
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
