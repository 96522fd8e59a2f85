// How good a taste is, as it grows: the curve of a report in its place, on the tab "Taste" and on a saved page.
(() => {
  const VAGUE = 0.55; // wide as an interval after ten tests: what comes before says nothing
  const WIDEST = 520; // px

  /** Draw {curve, ceiling} into this element; nothing while two points are missing. */
  window.palateCurve = (place, told) => {
    const points = told.curve.filter(([, , low, high]) => high - low < VAGUE);
    const width = Math.max(Math.min(place.clientWidth, WIDEST), 200);
    const size = { width, height: Math.round(width * 0.42) };
    place.replaceChildren(...(points.length > 1 ? [window.palateKit.plotCurve(points, { ceiling: told.ceiling, ...size })] : []));
  };
})();
