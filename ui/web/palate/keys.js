/**
 * Keys of a part of the page, while the pointer or the focus is on it, and only then.
 *
 * A key that is taken here reaches nobody else: Backspace would delete the selected node. Keys with Ctrl, Alt or
 * Cmd, with Shift but for the arrows to the sides and the digits, and whatever is typed into a field, are left alone.
 */

const MARK = "palate-keys"; // class of such parts

/**
 * @param {HTMLElement} root the part
 * @param {(key: string, event: KeyboardEvent) => boolean} press told of each key ("ArrowLeft", " ", lower-case letters);
 *   returns whether it takes the key
 * @returns {() => void} stops it
 */
export function listen(root, press) {
  root.classList.add(MARK);
  const hear = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const digit = /^Digit([1-9])$/.exec(event.code)?.[1]; // whatever sign it makes, with Shift or on a French keyboard
    if (event.shiftKey && !digit && !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    if (!isOn(root) || isTyping(event)) return;
    if (!press(digit || (event.key.length === 1 ? event.key.toLowerCase() : event.key), event)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  window.addEventListener("keydown", hear, true); // before ComfyUI's own
  return () => window.removeEventListener("keydown", hear, true);
}

/** Where the pointer is counts more than where the focus was left. */
function isOn(root) {
  if (root.matches(":hover")) return true;
  return root.contains(document.activeElement) && !document.querySelector(`.${MARK}:hover`);
}

function isTyping(event) {
  const target = event.composedPath()[0];
  return target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
}

/** Whether what is typed now goes into a field. */
export function hasField() {
  return Boolean(document.activeElement?.matches("input, textarea, select, [contenteditable]"));
}
