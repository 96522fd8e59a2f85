// Rows of pictures by keys, and any picture inside of [data-pictures] at full size: by click or Enter, arrows go to its
// neighbours, Escape closes.
(() => {
  const one = (name, className, text = "") => Object.assign(document.createElement(name), { className, textContent: text });
  let dialog = null;
  let list = [];
  let at = 0;

  const show = () => {
    const element = list[at];
    const small = element.matches("img") ? element : element.querySelector("img");
    const image = dialog.querySelector("img");
    image.src = element.dataset.large || small.src;
    image.alt = element.getAttribute("aria-label") ?? small.alt;
    dialog.querySelector("p").textContent = [element.dataset.said, image.alt].filter(Boolean).join(" · ");
  };
  const step = (by) => {
    at = Math.min(Math.max(at + by, 0), list.length - 1);
    show();
  };

  const made = () => {
    const close = one("button", "pl-round pl-shut", "×");
    Object.assign(close, { type: "button", ariaLabel: "Close" });
    dialog = one("dialog", "pl-large");
    dialog.append(one("img", ""), one("p", ""), close);
    dialog.addEventListener("click", (event) => !event.target.matches("img, p") && dialog.close());
    dialog.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      step(by);
    });
    document.body.append(dialog);
  };

  /** Show one of these elements large; each is a picture or has one. */
  window.palateLarge = (elements, element) => {
    if (!dialog) made();
    [list, at] = [elements, elements.indexOf(element)];
    show();
    dialog.showModal();
  };

  // A row is one stop of the tab key; arrows go from picture to picture.
  document.addEventListener("keydown", (event) => {
    const element = event.target instanceof Element ? event.target.closest("[data-pictures] > button") : null;
    const row = element ? [...element.parentElement.children] : [];
    const here = row.indexOf(element);
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: row.length - 1 }[event.key];
    if (to === undefined || !row[to]) return;
    event.preventDefault();
    row.forEach((one, index) => (one.tabIndex = index === to ? 0 : -1));
    row[to].focus();
  });

  document.addEventListener("click", (event) => {
    const element = event.target instanceof Element ? event.target.closest("[data-pictures] > button[data-large]") : null;
    if (element) window.palateLarge([...element.parentElement.children], element);
  });
})();
