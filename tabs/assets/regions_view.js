// How much of the picture the board shows: zoomed by wheel, keys, buttons or two fingers, never beyond its edges.
const MAX_ZOOM = 8;
const view = { zoom: 1, x: 0, y: 0 }; // x, y: the upper left corner that is shown, in fractions of the picture
let pinch = null; // two fingers: where they were, and the view then

/** A point of the board under the pointer, in fractions of the board. */
function onBoard(event) {
  const box = $("board").getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}
/** The picture's point under the pointer, in fractions of the picture. */
function at(event) {
  const [x, y] = onBoard(event);
  return [clamp(view.x + x / view.zoom), clamp(view.y + y / view.zoom)];
}
function setView(zoom, x, y) {
  view.zoom = clamp(zoom, 1, MAX_ZOOM);
  view.x = clamp(x, 0, 1 - 1 / view.zoom);
  view.y = clamp(y, 0, 1 - 1 / view.zoom);
  const inner = $("inner");
  inner.style.transform = `scale(${view.zoom}) translate(${-100 * view.x}%, ${-100 * view.y}%)`;
  inner.style.setProperty("--zoom", view.zoom);
  root.dataset.zoom = view.zoom.toFixed(2);
  $("zoom").textContent = `${Math.round(100 * view.zoom)}%`;
  root.querySelector('[data-do="in"]').disabled = view.zoom >= MAX_ZOOM;
  for (const name of ["out", "whole"]) root.querySelector(`[data-do="${name}"]`).disabled = view.zoom <= 1;
  root.querySelector('[data-tool="pan"]').disabled = view.zoom <= 1;
  if (view.zoom <= 1 && tool === "pan") use("box");
}
/** Zoomed by a factor; the picture's point at (x, y) of the board stays where it is. */
function zoomBy(factor, [x, y] = [0.5, 0.5]) {
  const zoom = clamp(view.zoom * factor, 1, MAX_ZOOM);
  setView(zoom, view.x + x / view.zoom - x / zoom, view.y + y / view.zoom - y / zoom);
}
const pan = (from, dx, dy) => setView(from.zoom, from.x - dx / from.zoom, from.y - dy / from.zoom);

function startPinch([first, second]) {
  const middle = [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2];
  pinch = { from: { ...view }, middle, apart: Math.hypot(first[0] - second[0], first[1] - second[1]) };
}
/** The picture's point that was between the fingers stays between them. */
function movePinch([first, second]) {
  const [x, y] = [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2];
  const zoom = clamp((pinch.from.zoom * Math.hypot(first[0] - second[0], first[1] - second[1])) / Math.max(pinch.apart, 0.02), 1, MAX_ZOOM);
  const held = [0, 1].map((i) => [pinch.from.x, pinch.from.y][i] + pinch.middle[i] / pinch.from.zoom);
  setView(zoom, held[0] - x / zoom, held[1] - y / zoom);
}
