// Labelled boxes and brush strokes on a picture, by mouse, touch or keyboard. The value is what the server reads:
// [{label, boxes: [[left, top, right, bottom]], strokes: [{points: [[x, y]], width}]}], in fractions of the side.
const root = element.querySelector(".regions");
const $ = (name) => root.querySelector(`[data-part="${name}"]`);
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const SVG = "http://www.w3.org/2000/svg";
const board = $("board");
const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));
const round = (value) => Math.round(value * 1e4) / 1e4;
const MIN_SIDE = 0.03; // side of a box that was drawn on purpose
let regions = [];
let chosen = -1;
let tool = "box";
let past = [];
let saidHere = "";

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
const isBox = (region) => region.boxes.length > 0 && !region.strokes.length;

// ---- pointer --------------------------------------------------------------------------------------------------------
let drag = null;
function at(event) {
  const box = board.getBoundingClientRect();
  return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
}
board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || drag) return;
  event.preventDefault();
  document.activeElement?.blur?.();
  board.setPointerCapture(event.pointerId);
  const [x, y] = at(event);
  const shape = event.target.closest?.("[data-index]");
  if (tool === "brush") {
    const width = Number($("width").value) / 100;
    const stroke = { points: [[round(x), round(y)]], width };
    if (chosen >= 0 && regions[chosen]?.strokes.length) {
      remember();
      regions[chosen].strokes.push(stroke);
    } else if (!add({ label: freeLabel("Brush"), strokes: [stroke] })) return;
    drag = { kind: "brush", stroke };
  } else if (shape) {
    const index = Number(shape.dataset.index);
    chosen = index;
    const corner = event.target.dataset.corner;
    drag = { kind: corner ? "resize" : "move", corner, index, from: [x, y], box: [...regions[index].boxes[0]], before: copy() };
  } else {
    drag = { kind: "new", from: [x, y] };
  }
  draw();
});
board.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = at(event);
  if (drag.kind === "brush") {
    const last = drag.stroke.points.at(-1);
    if (Math.hypot(x - last[0], y - last[1]) > 0.008) drag.stroke.points.push([round(x), round(y)]);
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
function drop(event) {
  if (!drag) return;
  const done = drag;
  drag = null;
  if (done.kind === "brush") return tell();
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
    past.push(done.before);
    tell();
  }
  root.querySelector(`.shape[data-index="${done.index}"]`)?.focus({ preventScroll: true });
  draw();
}
board.addEventListener("pointerup", drop);
board.addEventListener("pointercancel", drop);

// ---- keyboard -------------------------------------------------------------------------------------------------------
board.addEventListener("keydown", (event) => {
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
for (const button of root.querySelectorAll("[data-tool]"))
  button.addEventListener("click", () => {
    tool = button.dataset.tool;
    draw();
  });
const actions = {
  undo,
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
function toggle(preset) {
  const index = regions.findIndex((r) => r.label === preset.label);
  if (index >= 0) return remove(index);
  tool = "box";
  if (add({ label: preset.label, boxes: [[...preset.box]] })) tell();
}

// ---- drawing --------------------------------------------------------------------------------------------------------
const colour = (index) => `var(--region-${index % 6})`;
function place(node, [left, top, right, bottom]) {
  node.style.left = `${100 * left}%`;
  node.style.top = `${100 * top}%`;
  node.style.width = `${100 * (right - left)}%`;
  node.style.height = `${100 * (bottom - top)}%`;
}
function shapeFor(index) {
  const node = make("div", "shape");
  node.tabIndex = 0;
  node.setAttribute("role", "group");
  node.dataset.index = index;
  node.append(make("span", "name"));
  for (const corner of ["nw", "ne", "sw", "se"]) {
    const handle = make("i", corner);
    handle.dataset.corner = corner;
    node.append(handle);
  }
  return node;
}
function drawShapes() {
  const shapes = $("shapes");
  shapes.querySelector(".growing")?.remove();
  const wanted = regions.map((r, i) => (isBox(r) ? i : -1)).filter((i) => i >= 0);
  while (shapes.children.length > wanted.length) shapes.lastChild.remove();
  wanted.forEach((index, n) => {
    const node = shapes.children[n] || shapes.appendChild(shapeFor(index));
    node.dataset.index = index;
    node.style.setProperty("--colour", colour(index));
    node.classList.toggle("chosen", index === chosen);
    node.firstChild.textContent = regions[index].label;
    node.setAttribute("aria-label", `${regions[index].label}: arrow keys move it, with Shift they resize it, Delete removes it`);
    place(node, regions[index].boxes[0]);
  });
  if (drag?.kind === "new" && drag.to) {
    const growing = make("div", "growing");
    const [a, b] = [drag.from, drag.to];
    place(growing, [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])]);
    shapes.append(growing);
  }
}
function drawStrokes() {
  $("strokes").replaceChildren(
    ...regions.flatMap((region, index) =>
      region.strokes.map((stroke) => {
        const line = document.createElementNS(SVG, "polyline");
        const points = stroke.points.length > 1 ? stroke.points : [stroke.points[0], stroke.points[0]];
        line.setAttribute("points", points.map(([x, y]) => `${100 * x},${100 * y}`).join(" "));
        line.setAttribute("stroke-width", 100 * stroke.width);
        line.style.stroke = colour(index);
        line.classList.toggle("chosen", index === chosen);
        return line;
      }),
    ),
  );
}
const SIDES = {
  Left: [([l]) => l, ([l, t, r, b], v) => [v, t, Math.max(v + r - l, v + MIN_SIDE), b]],
  Top: [([, t]) => t, ([l, t, r, b], v) => [l, v, r, Math.max(v + b - t, v + MIN_SIDE)]],
  Width: [([l, , r]) => r - l, ([l, t, , b], v) => [l, t, l + Math.max(v, MIN_SIDE), b]],
  Height: [([, t, , b]) => b - t, ([l, t, r], v) => [l, t, r, t + Math.max(v, MIN_SIDE)]],
};
function number(index, side) {
  const label = make("label", "", side);
  const input = make("input");
  Object.assign(input, { type: "number", min: 0, max: 100, step: 1 });
  input.dataset.side = side;
  input.addEventListener("input", () => (input.dataset.typing = ""));
  input.addEventListener("change", () => {
    delete input.dataset.typing;
    remember();
    setBox(index, SIDES[side][1](regions[index].boxes[0], clamp(Number(input.value) / 100 || 0)));
    chosen = index;
    tell();
  });
  label.append(input);
  return label;
}
function lineFor(region, index) {
  const line = make("div", "line");
  line.style.setProperty("--colour", colour(index));
  const name = make("input", "label");
  Object.assign(name, { type: "text", maxLength: 40 });
  name.setAttribute("aria-label", "Name of the region");
  name.addEventListener("focus", () => {
    chosen = index;
    drawShapes();
    drawStrokes();
  });
  name.addEventListener("change", () => {
    const text = name.value.trim();
    if (!text || regions.some((other, i) => i !== index && other.label === text)) name.value = regions[index].label;
    if (name.value === regions[index].label) return;
    remember();
    regions[index].label = text;
    tell();
  });
  const away = make("button", "away", "×");
  away.type = "button";
  away.addEventListener("click", () => remove(index));
  line.append(make("i"), name);
  if (isBox(region)) {
    const fields = make("div", "fields");
    fields.append(...Object.keys(SIDES).map((side) => number(index, side)));
    line.append(away, fields);
  } else line.append(make("small", "", region.strokes.length === 1 ? "1 stroke" : `${region.strokes.length} strokes`), away);
  return line;
}
function draw() {
  root.classList.toggle("brushing", tool === "brush");
  root.dataset.count = regions.length;
  for (const button of root.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
  $("widthLabel").hidden = tool !== "brush";
  root.querySelector('[data-do="add"]').hidden = tool === "brush";
  root.querySelector('[data-do="undo"]').disabled = !past.length;
  root.querySelector('[data-do="clear"]').disabled = !regions.length;
  $("image").src = props.image || "";
  $("overlay").src = regions.length && !drag ? props.overlay || "" : "";
  const said = saidHere || (regions.length ? props.said : "") || "";
  $("said").textContent = said || (regions.length ? "" : "Choose a part, or drag a box over the picture.");
  $("said").classList.toggle("bad", Boolean(said));
  drawChips();
  drawShapes();
  drawStrokes();
  drawList();
}
// Chips and lines are made anew only for others: one that vanishes under a finger is not clicked.
function drawChips() {
  const presets = props.presets || [];
  const wanted = JSON.stringify(presets);
  if ($("chips").dataset.drawn !== wanted) {
    $("chips").replaceChildren(
      ...presets.map((preset) => {
        const chip = make("button", "", preset.label);
        chip.type = "button";
        chip.addEventListener("click", () => toggle(preset));
        return chip;
      }),
    );
    $("chips").dataset.drawn = wanted;
  }
  for (const chip of $("chips").children) chip.setAttribute("aria-pressed", regions.some((r) => r.label === chip.textContent));
}
function drawList() {
  const list = $("list");
  const wanted = JSON.stringify(regions.map(({ boxes, strokes }) => [boxes.length, strokes.length]));
  if (list.dataset.drawn !== wanted) list.replaceChildren(...regions.map(lineFor));
  list.dataset.drawn = wanted;
  regions.forEach((region, index) => {
    const line = list.children[index];
    line.classList.toggle("chosen", index === chosen);
    const name = line.querySelector(".label");
    if (name !== document.activeElement) name.value = region.label;
    line.querySelector(".away").setAttribute("aria-label", `Remove ${region.label}`);
    for (const input of line.querySelectorAll("[data-side]")) {
      input.setAttribute("aria-label", `${input.dataset.side} of ${region.label}, per cent`);
      const value = Math.round(100 * SIDES[input.dataset.side][0](region.boxes[0]));
      const typing = "typing" in input.dataset && input === document.activeElement;
      if (!typing && (Number(input.value) !== value || !input.value)) input.value = value;
    }
  });
}
function take() {
  const given = Array.isArray(props.value) ? props.value : [];
  if (JSON.stringify(given) !== JSON.stringify(regions)) {
    regions = JSON.parse(JSON.stringify(given));
    chosen = regions.length - 1;
    past = [];
  }
  draw();
}
take();
watch("value", take);
watch(["image", "overlay", "said", "presets"], draw);
