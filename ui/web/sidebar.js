/**
 * Palate's place in ComfyUI's sidebar, with its badge, and the commands that keys can be bound to.
 *
 * ComfyUI keeps one command per key, for the whole page: its own front ends before 1.40 ignore what element a binding
 * is meant for. So the commands look for themselves whether the pointer or the focus is on a question, in a node or in
 * the sidebar, and do nothing elsewhere; and their keys are ones that nothing else uses. The plain keys (arrows, T, B,
 * S, Z) belong to the question itself while pointer or focus is on it, and can't be rebound.
 */

import { app } from "/scripts/app.js";
import { COMPARE, commandOf, compare, imagesOf, menuOf } from "./palate/anywhere.js";
import { hasField } from "./palate/keys.js";
import { State } from "./palate/state.js";
import { Tab } from "./palate/tab.js";
import { addStyle } from "./palate/style.js";
import { loadTexts, onLanguage, say } from "./palate/texts.js";

const ID = "palate";
const TOGGLE = `Workspace.ToggleSidebarTab.${ID}`; // ComfyUI makes this command for every tab
const BADGE = "Palate.Badge";
const HINTS = "Palate.KeyHints";
// Where there is no room for words, keys are what the buttons say.
const HIDDEN = "@container (min-width: 311px) { .palate-no-keys .palate-key { display: none !important; } }";
const CLOSED = 300; // milliseconds
const MOST = 99; // the badge says 99+ beyond
const MAC = /Mac|iPhone|iPad/.test(navigator.platform); // where Option and Shift with these keys edit text
const ANSWERS = [
  ["Left", "left", "ArrowLeft", "Palate: I prefer the left image"],
  ["Right", "right", "ArrowRight", "Palate: I prefer the right image"],
  ["Tie", "tie", "ArrowDown", "Palate: both images are equally good"],
  ["BothBad", "both_bad", "Delete", "Palate: I like neither image"],
  ["Skip", "skip", "ArrowUp", "Palate: skip this question"],
  ["Undo", "undo", "Backspace", "Palate: take back the last answer"],
];

const state = new State();
let tab = null;

/** Press a button of the question under the pointer, else of the one with the focus, else of the open sidebar's. */
function press(act) {
  if (hasField()) return; // whatever keys they were given, there they edit text
  const asked = (rest) => document.querySelector(`.palate-pairs${rest}`);
  const question = asked(":hover") ?? asked(":focus-within") ?? document.querySelector(".palate-tab .palate-pairs");
  question?.querySelector(`[data-act="${act}"]`)?.click();
}

function setting(id) {
  return app.extensionManager?.setting?.get(id) ?? true;
}

/** The tab as ComfyUI watches it: what is set here shows. */
function watched() {
  return app.extensionManager?.getSidebarTabs?.().find(({ id }) => id === ID);
}

function drawBadge() {
  const shown = watched();
  if (!shown) return;
  const { waiting, wait } = state;
  const count = waiting > MOST ? `${MOST}+` : waiting ? String(waiting) : wait ? "!" : "";
  const badge = setting(BADGE) ? count : "";
  const tooltip = say(wait ? "tab.tooltip_graph" : waiting ? "tab.tooltip_waiting" : "tab.tooltip", { count: waiting });
  if (shown.iconBadge !== badge) shown.iconBadge = badge;
  if (shown.tooltip !== tooltip) shown.tooltip = tooltip;
}

/** Ask about what nodes show, here in the sidebar. */
async function begin(nodes) {
  if (!(await compare(state, nodes))) return;
  if (!tab?.root.isConnected) app.extensionManager.command.execute(TOGGLE);
  setTimeout(() => tab?.turnTo(), CLOSED); // a menu gives the focus back when it has closed
}

function drawHints() {
  document.body.classList.toggle("palate-no-keys", !setting(HINTS));
}

app.registerExtension({
  name: "palate.sidebar",

  settings: [
    {
      id: BADGE,
      name: "Number of waiting questions on the sidebar icon",
      type: "boolean",
      defaultValue: true,
      onChange: () => drawBadge(),
    },
    { id: HINTS, name: "Keys beside the buttons", type: "boolean", defaultValue: true, onChange: () => drawHints() },
  ],

  commands: [
    ...ANSWERS.map(([name, act, , label]) => ({ id: `Palate.${name}`, label, function: () => press(act) })),
    commandOf(begin),
  ],

  getNodeMenuItems: (node) => menuOf(node, begin),

  getSelectionToolboxCommands: (item) => (imagesOf(item).length ? [COMPARE] : []),

  keybindings: MAC
    ? []
    : [
        ...ANSWERS.map(([name, , key]) => ({ commandId: `Palate.${name}`, combo: { key, alt: true, shift: true } })),
        { commandId: TOGGLE, combo: { key: "p", alt: true, shift: true } },
      ],

  async setup() {
    await loadTexts();
    addStyle("keys", HIDDEN);
    app.extensionManager.registerSidebarTab({
      id: ID,
      icon: "pi pi-heart",
      title: say("tab.title"),
      tooltip: say("tab.tooltip"),
      iconBadge: "",
      type: "custom",
      render: (place) => {
        tab ??= new Tab(state);
        tab.show(place);
      },
    });
    state.addEventListener("change", drawBadge);
    onLanguage(() => {
      tab?.translate();
      drawBadge();
    });
    drawHints();
    state.start();
  },
});
