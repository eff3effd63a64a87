// Labelled boxes, brush strokes and masks on a picture, by mouse, touch or keyboard. The value is what the server reads:
// [{label, boxes: [[left, top, right, bottom]], strokes: [{points: [[x, y]], width, erases}], masks: [URL of a PNG]}], in
// fractions of the side.
const root = element.querySelector(".regions");
const $ = (name) => root.querySelector(`[data-part="${name}"]`);
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const board = $("board");
const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));
const round = (value) => Math.round(value * 1e4) / 1e4;
const MIN_SIDE = 0.03; // side of a box that was drawn on purpose
let regions = [];
let chosen = -1;
let tool = "box";
let past = [];
let saidHere = "";
let arrived = props.arrived?.id; // the last mask file that was taken
let partsOf = null; // the picture whose parts were asked for
let known = null; // parts that came: of which picture, and which
let looking = false; // for what is at a place
const WIDTH = "width of the brush";

// ---- changes --------------------------------------------------------------------------------------------------------
const copy = () => JSON.parse(JSON.stringify(regions));
function remember() {
  past.push(copy());
  if (past.length > 60) past.shift();
}
function tell() {
  saidHere = "";
  props.value = copy();
  draw();
  trigger("input");
}
function freeLabel(word) {
  for (let n = 1; ; n++) if (!regions.some((r) => r.label === `${word} ${n}`)) return `${word} ${n}`;
}
function add(region) {
  if (regions.length >= props.max_regions) {
    saidHere = `Up to ${props.max_regions} regions can be used. Remove one first.`;
    draw();
    return false;
  }
  remember();
  regions.push({ boxes: [], strokes: [], ...region });
  chosen = regions.length - 1;
  return true;
}
function remove(index) {
  remember();
  regions.splice(index, 1);
  chosen = Math.min(chosen, regions.length - 1);
  tell();
}
function undo() {
  if (!past.length) return;
  drag = null;
  regions = past.pop();
  chosen = Math.min(chosen, regions.length - 1);
  tell();
}
function setBox(index, [left, top, right, bottom]) {
  regions[index].boxes[0] = [left, top, right, bottom].map((v) => round(clamp(v)));
}
function moved([l, t, r, b], dx, dy) {
  const x = clamp(dx, -l, 1 - r);
  const y = clamp(dy, -t, 1 - b);
  return [l + x, t + y, r + x, b + y];
}
const isBox = (region) => region.boxes.length > 0 && !region.strokes.length && !region.masks?.length;
function use(name) {
  tool = name;
  saidHere = "";
  if (tool === "part") askForParts();
  draw();
}

// ---- keyboard -------------------------------------------------------------------------------------------------------
board.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey) return;
  const look = { "+": 1.25, "=": 1.25, "-": 0.8, _: 0.8, 0: 1e-9 }[event.key];
  const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (look || (step && event.target === board && view.zoom > 1)) {
    event.preventDefault();
    return look ? zoomBy(look) : pan({ ...view }, 0.1 * step[0], 0.1 * step[1]);
  }
  if (event.key === "Enter" && event.target === board && (tool === "object" || tool === "part")) {
    event.preventDefault();
    const middle = [view.x + 0.5 / view.zoom, view.y + 0.5 / view.zoom];
    return tool === "part" ? pick(middle) : lookAt(middle);
  }
  const shape = event.target.closest("[data-index]");
  if (!shape) return;
  const index = Number(shape.dataset.index);
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (move) {
    event.preventDefault();
    const step = 0.01 * (event.altKey ? 5 : 1);
    const box = regions[index].boxes[0];
    if (!event.repeat) remember();
    if (event.shiftKey) {
      const [l, t, r, b] = box;
      setBox(index, [l, t, clamp(r + step * move[0], l + MIN_SIDE, 1), clamp(b + step * move[1], t + MIN_SIDE, 1)]);
    } else setBox(index, moved(box, step * move[0], step * move[1]));
    chosen = index;
    tell();
  } else if (event.key === "Delete" || event.key === "Backspace") {
    event.preventDefault();
    remove(index);
    (root.querySelector(".shape") || root.querySelector('[data-do="add"]')).focus();
  }
});
root.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.target.tagName === "INPUT") return;
  event.preventDefault();
  undo();
});
root.addEventListener("focusin", (event) => {
  const shape = event.target.closest(".shape");
  if (shape && Number(shape.dataset.index) !== chosen) {
    chosen = Number(shape.dataset.index);
    draw();
  }
});

// ---- buttons --------------------------------------------------------------------------------------------------------
for (const button of root.querySelectorAll("[data-tool]")) button.addEventListener("click", () => use(button.dataset.tool));
// The width stays when another tool is used, in the other tab and on the next visit; without storage, while the page is open.
try {
  $("width").value = Number(localStorage.getItem(WIDTH)) || 9;
} catch {}
$("width").addEventListener("change", () => {
  try {
    localStorage.setItem(WIDTH, $("width").value);
  } catch {}
});
const actions = {
  undo,
  in: () => zoomBy(1.5),
  out: () => zoomBy(1 / 1.5),
  whole: () => setView(1, 0, 0),
  open() {
    saidHere = "";
    let near = element; // the button that Gradio uploads by, which is not shown
    while (near && !near.querySelector(".mask-file")) near = near.parentElement;
    near?.querySelector(".mask-file").click();
  },
  add() {
    if (!add({ label: freeLabel("Region"), boxes: [[0.35, 0.35, 0.65, 0.65]] })) return;
    tool = "box";
    tell();
    root.querySelector(`.shape[data-index="${chosen}"]`)?.focus({ preventScroll: true });
  },
  clear() {
    if (!regions.length) return;
    remember();
    regions = [];
    chosen = -1;
    tell();
  },
};
for (const button of root.querySelectorAll("[data-do]"))
  button.addEventListener("click", () => actions[button.dataset.do]());
const isPreset = (region, preset) => region.label === preset.label && !region.masks?.length;
function toggle(preset) {
  const index = regions.findIndex((region) => isPreset(region, preset));
  if (index >= 0) return remove(index);
  tool = "box";
  const label = regions.some((region) => region.label === preset.label) ? freeLabel(preset.label) : preset.label;
  if (add({ label, boxes: [[...preset.box]] })) tell();
}
