// ---- pointer --------------------------------------------------------------------------------------------------------
let drag = null;
let active = false; // the mouse works here: its wheel zooms, where it else would scroll the page
const held = new Map(); // the pointers on the board, and where they are on it
const brushWidth = () => Number($("width").value) / 100;

/** Everything as it was before a drag: the finger was the first of two. */
function cancel() {
  if (drag?.before) [regions, chosen] = [drag.before, drag.chosen];
  drag = null;
  draw();
}
board.addEventListener("pointerdown", (event) => {
  if (event.button > 1) return;
  event.preventDefault();
  active = true;
  if (document.activeElement !== board) document.activeElement?.blur?.();
  board.setPointerCapture(event.pointerId);
  held.set(event.pointerId, onBoard(event));
  if (held.size === 2) {
    cancel();
    return startPinch([...held.values()]);
  }
  if (drag || pinch || held.size > 2) return;
  const [x, y] = at(event);
  const shape = event.target.closest?.("[data-index]");
  const from = { from: [x, y], before: copy(), chosen };
  if (tool === "pan" || event.button === 1) {
    drag = { kind: "pan", view: { ...view }, start: onBoard(event) };
  } else if (tool === "brush") {
    const stroke = { points: [[round(x), round(y)]], width: brushWidth() };
    const painted = chosen >= 0 && regions[chosen] && !isBox(regions[chosen]);
    if (painted) regions[chosen].strokes.push(stroke);
    else if (add({ label: freeLabel("Brush"), strokes: [stroke] })) past.pop();
    else return;
    drag = { kind: "brush", stroke, ...from };
  } else if (tool === "eraser") {
    const stroke = { points: [[round(x), round(y)]], width: brushWidth(), erases: true };
    drag = { kind: "eraser", stroke, covers: regions.map(covered), hit: new Set(), ...from };
    erase(x, y);
  } else if (tool === "part" || tool === "object") {
    drag = { kind: tool, from: [x, y] };
  } else if (shape) {
    const index = Number(shape.dataset.index);
    chosen = index;
    const corner = event.target.dataset.corner;
    drag = { kind: corner ? "resize" : "move", corner, index, box: [...regions[index].boxes[0]], ...from };
  } else {
    drag = { kind: "new", ...from };
  }
  draw();
});
/** The eraser takes away from every region that it touches. */
function erase(x, y) {
  regions.forEach((region, index) => {
    if (drag.hit.has(index) || !touches(drag.covers[index], x, y, drag.stroke.width)) return;
    drag.hit.add(index);
    region.strokes.push(drag.stroke);
  });
}
board.addEventListener("pointermove", (event) => {
  ring(event);
  if (held.has(event.pointerId)) held.set(event.pointerId, onBoard(event));
  if (pinch) {
    if (held.size >= 2) movePinch([...held.values()]);
    return;
  }
  if (!drag) return;
  const [x, y] = at(event);
  if (drag.kind === "pan") {
    const now = onBoard(event);
    pan(drag.view, now[0] - drag.start[0], now[1] - drag.start[1]);
    return;
  }
  if (drag.stroke) {
    const last = drag.stroke.points.at(-1);
    if (Math.hypot(x - last[0], y - last[1]) > 0.008 / view.zoom) drag.stroke.points.push([round(x), round(y)]);
    if (drag.kind === "eraser") erase(x, y);
  } else if (drag.kind === "move") {
    setBox(drag.index, moved(drag.box, x - drag.from[0], y - drag.from[1]));
    drag.changed = true;
  } else if (drag.kind === "resize") {
    const box = [...drag.box];
    const [i, j] = { nw: [0, 1], ne: [2, 1], sw: [0, 3], se: [2, 3] }[drag.corner];
    box[i] = i === 0 ? Math.min(x, box[2] - MIN_SIDE) : Math.max(x, box[0] + MIN_SIDE);
    box[j] = j === 1 ? Math.min(y, box[3] - MIN_SIDE) : Math.max(y, box[1] + MIN_SIDE);
    setBox(drag.index, box);
    drag.changed = true;
  } else {
    drag.to = [x, y];
  }
  draw();
});
function keep(before) {
  past.push(before);
  if (past.length > 60) past.shift();
}
function drop(event) {
  held.delete(event.pointerId);
  if (pinch) {
    if (!held.size) pinch = null; // a finger that stays draws nothing
    return;
  }
  if (!drag) return;
  const done = drag;
  drag = null;
  if (done.kind === "pan") return;
  if (done.kind === "part" || done.kind === "object") {
    if (event.type === "pointercancel") return draw();
    return done.kind === "part" ? pick(done.from) : lookAt(done.from, done.to);
  }
  if (done.kind === "brush" || done.hit?.size) {
    keep(done.before);
    if (done.hit) {
      regions = regions.filter((region, index) => !done.hit.has(index) || covered(region).some((value) => value > 127));
      chosen = Math.min(chosen, regions.length - 1);
    }
    return tell();
  }
  if (done.kind === "eraser") saidHere = regions.length ? "" : "There is nothing to erase yet.";
  if (done.kind === "new") {
    const [x, y] = done.to || done.from;
    const box = [Math.min(x, done.from[0]), Math.min(y, done.from[1]), Math.max(x, done.from[0]), Math.max(y, done.from[1])];
    if (event.type !== "pointercancel" && box[2] - box[0] >= MIN_SIDE && box[3] - box[1] >= MIN_SIDE) {
      if (add({ label: freeLabel("Region"), boxes: [box.map(round)] })) return tell();
    } else {
      chosen = -1;
    }
    return draw();
  }
  if (done.changed) {
    keep(done.before);
    tell();
  }
  root.querySelector(`.shape[data-index="${done.index}"]`)?.focus({ preventScroll: true });
  draw();
}
board.addEventListener("pointerup", drop);
board.addEventListener("pointercancel", drop);
board.addEventListener("pointerleave", () => {
  active = false;
  $("ring").hidden = true;
});
/** The brush's outline under the mouse. */
function ring(event) {
  const shown = (tool === "brush" || tool === "eraser") && event.pointerType !== "touch";
  $("ring").hidden = !shown;
  if (!shown) return;
  const [x, y] = at(event);
  Object.assign($("ring").style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * brushWidth()}%` });
}
board.addEventListener(
  "wheel",
  (event) => {
    const asked = event.ctrlKey || event.metaKey || view.zoom > 1 || active;
    if (!asked) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.ctrlKey && Math.abs(event.deltaY) < 50 ? 0.01 : 0.002)), onBoard(event));
  },
  { passive: false },
);

// ---- parts and mask files -------------------------------------------------------------------------------------------
function askForParts() {
  if (props.knows === "none" || partsOf === props.image) return;
  partsOf = props.image;
  trigger("select");
}
const FIRST = "The first time the network for it is downloaded. ";
const partsHere = () => (known?.of === props.image ? known.found : null);
function takeParts() {
  const words = props.parts?.words;
  known = words ? null : { of: partsOf, found: props.parts?.found || [] };
  if (words) [saidHere, partsOf] = [words, null];
  draw();
}
/** The part at a point becomes a region; tapped again, it is none any more. */
function pick([x, y]) {
  const parts = partsHere();
  if (!parts) {
    askForParts();
    saidHere = `The parts of this picture are being looked for. ${props.knows === "own" ? "" : FIRST}Tap again in a moment.`;
    return draw();
  }
  const place = Math.floor(clamp(y, 0, 0.999) * PROBED) * PROBED + Math.floor(clamp(x, 0, 0.999) * PROBED);
  const there = parts.filter(({ mask }) => covered({ boxes: [], strokes: [], masks: [mask] })[place] > 127);
  const part = there.sort((one, other) => one.area - other.area)[0]; // one eye before both
  if (!part) {
    saidHere = "There is no part here. Tap another place, or use the brush.";
    return draw();
  }
  togglePart(part);
}
const isPart = (region, part) => !region.strokes.length && region.masks?.length === 1 && region.masks[0] === part.mask;
function togglePart(part) {
  const index = regions.findIndex((region) => isPart(region, part));
  if (index >= 0) return remove(index);
  if (addMask(part)) tell();
}
function addMask({ label, mask }) {
  const taken = regions.some((region) => region.label === label);
  return add({ label: taken ? freeLabel(label) : label, masks: [mask] });
}
/** Whatever is at a point, or in the box between two of them, becomes a region as soon as the server has found it. */
function lookAt(from, to = from) {
  const box = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
  const large = box[2] - box[0] >= MIN_SIDE && box[3] - box[1] >= MIN_SIDE;
  if (looking) saidHere = "One moment: it is still being looked for.";
  else {
    looking = true;
    saidHere = `Looking what is there … ${FIRST}`;
    trigger("submit", { place: (large ? box : from).map(round) });
  }
  draw();
}
function takeArrived() {
  const value = props.arrived;
  if (!value || value.id === arrived) return;
  arrived = value.id;
  if (value.place) {
    if (!looking) return; // it is of another picture
    looking = false;
    saidHere = "";
  }
  if (value.words) {
    saidHere = value.words;
    return draw();
  }
  if (!addMask(value)) return;
  if (tool === "box") tool = "brush";
  tell();
}
