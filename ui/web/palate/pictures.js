/** Pictures that are loaded before they are shown, and how large they can be side by side. */

import { imageURL } from "./server.js";

const AGAIN = 2000; // milliseconds until pictures that couldn't be had are asked for again

/** The pictures of questions, loaded and decoded ahead of time. */
export class Pictures {
  constructor() {
    this.kept = new Map(); // offer -> {images, since, ready, broken, done}
  }

  /** Load a question's pictures; `done` resolves when all are there, or can't be had. */
  load(question) {
    const known = this.kept.get(question.offer);
    const now = performance.now();
    if (known && !(known.broken && now > known.since + AGAIN)) return known;
    const images = question.images.map((id) => Object.assign(new Image(), { src: imageURL(id), draggable: false }));
    const entry = { images, since: now, ready: false, broken: false };
    entry.done = Promise.allSettled(images.map((image) => image.decode())).then((results) => {
      entry.ready = true;
      entry.broken = results.some((result) => result.status === "rejected");
    });
    this.kept.set(question.offer, entry);
    return entry;
  }

  /** Drop all but these questions' pictures. */
  keep(questions) {
    const wanted = new Set(questions.map((question) => question?.offer));
    for (const offer of this.kept.keys()) if (!wanted.has(offer)) this.kept.delete(offer);
  }
}

/** Width / height of a picture; 1 while it isn't known. */
export function shape(image) {
  return image?.naturalWidth ? image.naturalWidth / image.naturalHeight : 1;
}

/**
 * How many columns show `count` pictures of one shape the largest.
 *
 * @param {number} count
 * @param {number} width of the place, px
 * @param {number} height of the place, px
 * @param {number} ratio width / height of a picture
 * @param {number} gap between pictures, px
 * @returns {{columns: number, width: number, height: number}} with the size of one cell
 */
export function grid(count, width, height, ratio, gap) {
  let best = { columns: count, width: 0, height: 0, area: -1 };
  for (let columns = count === 2 ? 2 : 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cell = { width: (width - gap * (columns - 1)) / columns, height: (height - gap * (rows - 1)) / rows };
    const wide = Math.min(cell.width, cell.height * ratio);
    if (wide > best.area) best = { columns, ...cell, area: wide };
  }
  return best;
}

/** The largest size of a picture of this shape in a place, px. */
export function fit(ratio, width, height) {
  const wide = Math.max(0, Math.min(width, height * ratio));
  return { width: wide, height: wide / ratio };
}
