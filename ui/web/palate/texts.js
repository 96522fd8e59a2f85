/**
 * The texts, in the language that ComfyUI is set to.
 *
 * They are ComfyUI's own translations: `locales/<language>/main.json`, under "palate", which its server hands out at
 * /i18n. English is one of them and stands in for what a language lacks.
 */

import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";

const ENGLISH = "en";
const LANGUAGE = "Comfy.Locale";
let books = {}; // language -> what is below "palate"
let fetched = null;

/** Fetch the texts, once; await this before the first `say`. A server that is away leaves them to a later call. */
export function loadTexts() {
  fetched ??= api
    .fetchApi("/i18n")
    .then((response) => response.json())
    .then((all) => {
      books = Object.fromEntries(Object.entries(all).map(([language, book]) => [language, book?.palate ?? {}]));
    })
    .catch(() => {
      fetched = null;
    });
  return fetched;
}

/** The language that ComfyUI is set to, as "en" or "zh-TW". */
export function language() {
  return app.extensionManager?.setting?.get(LANGUAGE) || ENGLISH;
}

/** Call the handler when somebody picks another language. */
export function onLanguage(handler) {
  app.ui?.settings?.addEventListener?.(`${LANGUAGE}.change`, () => setTimeout(handler, 0)); // once it is stored
}

/**
 * One text, its {names} filled in.
 *
 * @param {string} key with dots, as "sidebar.empty"; below it lies a text, or texts by plural category of `count`
 * @param {Object<string, string | number>} values
 * @returns {string} of ComfyUI's language, else English, else nothing; never the key
 */
export function say(key, values = {}) {
  const wanted = language();
  for (const code of [wanted, wanted.split("-")[0], ENGLISH]) {
    const text = find(books[code], key, code, values.count);
    if (text) return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
  }
  return "";
}

function find(book, key, code, count) {
  const found = key.split(".").reduce((level, name) => level?.[name], book);
  if (typeof found !== "object" || found === null) return found;
  return found[new Intl.PluralRules(code).select(count ?? 0)] ?? found.other;
}
