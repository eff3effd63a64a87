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
  if ((drag?.kind === "new" || drag?.kind === "object") && drag.to) {
    const growing = make("div", "growing");
    const [a, b] = [drag.from, drag.to];
    place(growing, [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])]);
    shapes.append(growing);
  }
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
    paint();
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
  const file = make("a", "file", "Save mask");
  file.title = "A PNG of the picture's size, white inside the region";
  line.append(make("i"), name);
  if (isBox(region)) {
    const fields = make("div", "fields");
    fields.append(...Object.keys(SIDES).map((side) => number(index, side)));
    line.append(file, away, fields);
  } else {
    const counted = { box: region.boxes.length, mask: region.masks?.length || 0, stroke: region.strokes.length };
    const kinds = Object.entries(counted).filter(([, count]) => count);
    line.append(make("small", "", kinds.map(([kind, n]) => (n === 1 ? kind : `${n} ${kind}${kind === "box" ? "es" : "s"}`)).join(", ")), file, away);
  }
  return line;
}
const HINTS = {
  box: "Choose a part, or drag a box over the picture.",
  brush: "Paint over what should change.",
  eraser: "Wipe away from the regions.",
  part: "Tap a part of the face: it becomes the region.",
  object: "Tap anything, or drag a box around it: it becomes the region.",
  pan: "Drag the picture.",
};
function draw() {
  if ((tool === "part" && props.knows === "none") || (tool === "object" && props.knows === "own")) tool = "box";
  root.classList.toggle("brushing", tool !== "box");
  root.dataset.tool = tool;
  root.querySelector('[data-tool="part"]').hidden = props.knows === "none";
  root.querySelector('[data-tool="object"]').hidden = props.knows === "own";
  root.dataset.count = regions.length;
  for (const button of root.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
  $("widthLabel").hidden = tool !== "brush" && tool !== "eraser";
  root.querySelector('[data-do="add"]').hidden = tool !== "box";
  root.querySelector('[data-do="undo"]').disabled = !past.length;
  root.querySelector('[data-do="clear"]').disabled = !regions.length;
  $("image").src = props.image || "";
  $("overlay").src = regions.length && !drag ? props.overlay || "" : "";
  const said = saidHere || (regions.length ? props.said : "") || "";
  $("said").textContent = said || (regions.length && tool === "box" ? "" : HINTS[tool]);
  $("said").classList.toggle("bad", Boolean(said));
  drawChips();
  drawParts();
  drawShapes();
  paint();
  drawList();
}
/** The parts that the picture shows, by name. */
function drawParts() {
  const parts = tool === "part" ? partsHere() || [] : [];
  $("parts").hidden = !parts.length;
  const wanted = JSON.stringify(parts);
  if ($("parts").dataset.drawn !== wanted) {
    $("parts").replaceChildren(
      ...parts.map((part) => {
        const chip = make("button", "", part.label);
        chip.type = "button";
        chip.addEventListener("click", () => togglePart(part));
        imageOf(part.mask); // so that it is there at the first tap
        return chip;
      }),
    );
    $("parts").dataset.drawn = wanted;
  }
  parts.forEach((part, index) => $("parts").children[index].setAttribute("aria-pressed", regions.some((region) => isPart(region, part))));
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
  presets.forEach((preset, index) => $("chips").children[index].setAttribute("aria-pressed", regions.some((region) => isPreset(region, preset))));
}
function drawList() {
  const list = $("list");
  const wanted = JSON.stringify(regions.map(({ boxes, strokes, masks }) => [boxes.length, strokes.length, masks?.length]));
  // The masks are those that the server makes of just these regions.
  const files = props.masks?.length === regions.length && JSON.stringify(props.masks_of) === JSON.stringify(regions) ? props.masks : [];
  if (list.dataset.drawn !== wanted) list.replaceChildren(...regions.map(lineFor));
  list.dataset.drawn = wanted;
  regions.forEach((region, index) => {
    const line = list.children[index];
    line.classList.toggle("chosen", index === chosen);
    const name = line.querySelector(".label");
    if (name !== document.activeElement) name.value = region.label;
    line.querySelector(".away").setAttribute("aria-label", `Remove ${region.label}`);
    const file = line.querySelector(".file");
    file.hidden = !files[index];
    if (files[index]) file.href = files[index];
    file.download = `${region.label.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "region"}-mask.png`;
    file.setAttribute("aria-label", `${region.label} as a mask file`);
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
function pictured() {
  saidHere = ""; // it was of the picture before
  looking = false;
  if (tool === "part") askForParts();
  draw();
}
setView(1, 0, 0);
take();
watch("value", take);
watch("arrived", takeArrived);
watch("image", pictured);
watch("parts", takeParts);
watch(["overlay", "said", "presets", "masks", "masks_of", "knows"], draw);
