/**
 * One view of several pictures: as large, and at the same place, in all of them.
 *
 * A view is {zoom, x, y}: zoom 1 shows the whole picture, and (x, y), as shares of the picture, lies in the middle.
 */

const FINEST = 8; // pixels of the screen for one of the picture, at most

export const WHOLE = Object.freeze({ zoom: 1, x: 0.5, y: 0.5 });

/** The largest zoom of a picture that is `shown` px wide as a whole and has `natural` px. */
export function largest(shown, natural) {
  return Math.max(4, (FINEST * natural) / Math.max(1, shown));
}

/**
 * Zoom around a point that stays where it is.
 *
 * @param {{zoom: number, x: number, y: number}} view
 * @param {number} factor
 * @param {{x: number, y: number}} point from the middle of the pane, px
 * @param {{width: number, height: number}} size of the whole picture at zoom 1, px
 * @param {number} most
 */
export function zoomed(view, factor, point, size, most) {
  const zoom = Math.min(most, Math.max(1, view.zoom * factor));
  const moved = (at, middle, length) => middle + (at / length) * (1 / view.zoom - 1 / zoom);
  return { zoom, x: moved(point.x, view.x, size.width), y: moved(point.y, view.y, size.height) };
}

/** Move the pictures by so many px. */
export function panned(view, dx, dy, size) {
  return { ...view, x: view.x - dx / (size.width * view.zoom), y: view.y - dy / (size.height * view.zoom) };
}

/** The view that leaves no empty edge which needn't be. */
export function held(view, size, pane) {
  const inside = (at, length, room) => {
    const half = room / (2 * length * view.zoom);
    return half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, at));
  };
  return { ...view, x: inside(view.x, size.width, pane.width), y: inside(view.y, size.height, pane.height) };
}

/** As a CSS transform of a picture that lies centred in its pane. */
export function transform(view, size) {
  const shift = (at, length) => (0.5 - at) * length * view.zoom;
  return `translate(${shift(view.x, size.width)}px, ${shift(view.y, size.height)}px) scale(${view.zoom})`;
}
