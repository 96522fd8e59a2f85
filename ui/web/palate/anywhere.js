/**
 * Asks about the pictures that any node shows, of any graph: in the menu of such a node, beside it when it is selected,
 * and as a command. Several selected nodes are asked about together; a single picture with the one before it.
 */

import { app } from "/scripts/app.js";
import { post } from "./server.js";
import { say } from "./texts.js";

export const COMPARE = "Palate.Compare"; // the command
const MOST = 100; // pictures sent: of more, which are too many, the server hears their number
const MADE = ["output", "temp"]; // what lies in the input folder was not made here
const SHOWN = ["images", "a_images", "b_images"]; // the last two where two pictures are laid over each other

/** What runs made that a node shows: {filename, subfolder, type}. */
export function imagesOf(node) {
  if (!node?.comfyClass) return []; // a group can be selected, too, and have a node's id
  const outputs = app.nodeOutputs ?? {};
  // Inside of a subgraph outputs are kept under the subgraph's id and the node's, which may be one of outside, too.
  const told = outputs[node.graph?.isRootGraph === false ? `${node.graph.id}:${node.id}` : node.id] ?? {};
  if ([told.animated].flat().some(Boolean)) return [];
  return SHOWN.flatMap((name) => told[name] ?? []).filter(({ filename, type }) => filename && MADE.includes(type));
}

function selected() {
  return Object.values(app.canvas?.selected_nodes ?? {}).filter((node) => imagesOf(node).length);
}

/**
 * Ask about what these nodes show.
 *
 * @param {import("./state.js").State} state whose next question it becomes
 * @param {object[]} nodes
 * @returns {Promise<boolean>} whether there is something to ask
 */
export async function compare(state, nodes) {
  const told = (severity, detail) => app.extensionManager?.toast?.add({ severity, summary: "Palate", detail, life: 6000 });
  const shown = nodes.flatMap(imagesOf).map(({ filename, subfolder, type }) => JSON.stringify({ filename, subfolder, type }));
  const images = [...new Set(shown)].map((one) => JSON.parse(one)); // a node can be selected together with its preview
  try {
    if (!images.length) throw new Error(say("compare.none"));
    if (!state.ready) await state.refresh();
    const body = { person: state.person, images: images.slice(0, MOST), count: images.length };
    const { person, pairs } = await post("/palate/compare", body);
    if (pairs.every(({ outcome }) => outcome)) throw new Error(say("compare.answered"));
    await state.bring({ person, offers: pairs.map(({ offer }) => offer) });
    return true;
  } catch (error) {
    told("warn", error.message);
    return false;
  }
}

/** The node's own menu entry, where it shows something. */
export function menuOf(node, begin) {
  if (!imagesOf(node).length) return [];
  const nodes = selected();
  return [{ content: say("compare.menu"), callback: () => begin(nodes.includes(node) ? nodes : [node]) }];
}

/** The command, which is also a button beside a selected node that shows something. */
export function commandOf(begin) {
  const label = "Palate: compare the images of the selected nodes";
  return { id: COMPARE, icon: "pi pi-heart", label, function: () => begin(selected()) };
}
