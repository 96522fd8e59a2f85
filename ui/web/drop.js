/**
 * A taste dropped anywhere on the page, as its file or as the picture that carries it, gets onto the shelf, and a node
 * that loads it into the graph. All other files stay ComfyUI's own business.
 */

import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";
import { loadTexts, say } from "./palate/texts.js";

const NODE = "PalateLoadTaste";
const LARGEST = 4 << 20; // bytes
const MARK = '"palate.taste"'; // of the file, which lies as it is in a picture that carries it

/** Whether a file holds a taste, as far as its beginning and its size say. */
async function isTaste(file) {
  if (!/\.(png|safetensors)$/i.test(file?.name ?? "") || file.size > LARGEST) return false;
  const text = new TextDecoder("latin1").decode(await file.arrayBuffer());
  return text.includes(MARK);
}

/** @returns {Promise<{file: string, person: string}>} */
async function bring(file) {
  const response = await api
    .fetchApi(`/palate/bring?name=${encodeURIComponent(file.name)}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    }) // without a limit: it goes on for as long as the connection does
    .catch(() => {
      throw new Error(say("wrong.away"));
    });
  const told = await response.json().catch(() => null);
  if (!response.ok || !told) throw new Error(told?.error ?? say("wrong.status", { status: response.status }));
  return told;
}

function addNode(file) {
  const node = window.LiteGraph?.createNode(NODE);
  if (!node) return;
  const widget = node.widgets?.find(({ name }) => name === "file");
  const known = widget?.options?.values;
  if (Array.isArray(known) && !known.includes(file)) known.push(file);
  if (widget) widget.value = file;
  const [x, y] = app.canvas?.graph_mouse ?? [0, 0];
  node.pos = [x, y];
  (app.canvas?.graph ?? app.graph).add(node);
}

function tell(severity, detail) {
  app.extensionManager?.toast?.add({ severity, summary: "Palate", detail, life: 6000 });
}

app.registerExtension({
  name: "palate.drop",
  async setup() {
    await loadTexts();
    const own = app.handleFile;
    app.handleFile = async function (file, ...more) {
      if (!(await isTaste(file))) return own.call(this, file, ...more);
      try {
        const told = await bring(file);
        addNode(told.file);
        tell("success", say(told.person ? "drop.added" : "drop.added_nameless", { name: told.person, file: told.file }));
      } catch (error) {
        tell("error", error.message);
      }
    };
  },
});
