// The result: before/after picture, strength slider, strip of strengths and read-outs. All switching happens here, so
// that moving the slider costs no round trip; only a strength outside the strip is asked of the server.
const root = element.querySelector(".stage");
const $ = (name) => root.querySelector(`[data-part="${name}"]`);
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const near = (a, b) => Math.abs(a - b) < 1e-6;
const signed = (value, digits = 2) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);
let state = {};
let cut = 50;
let wasBusy = false;
let chosen = null; // {result, strength}: what the visitor looks at, which later news of the same result leave alone
const units = (strength) => strength / (state.unit || 1); // 1 is what the direction suggests

// ---- before/after ---------------------------------------------------------------------------------------------------
const canvas = $("canvas");
const handle = $("handle");
function setCut(value) {
  cut = Math.min(100, Math.max(0, value));
  canvas.style.setProperty("--cut", `${cut}%`);
  handle.setAttribute("aria-valuenow", Math.round(cut));
}
function follow(event) {
  const box = canvas.getBoundingClientRect();
  setCut((100 * (event.clientX - box.left)) / box.width);
}
canvas.addEventListener("pointerdown", (event) => {
  if (!canvas.classList.contains("compare")) return;
  canvas.setPointerCapture(event.pointerId);
  follow(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (canvas.hasPointerCapture(event.pointerId)) follow(event);
});
handle.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -4, ArrowRight: 4, Home: -100, End: 100 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  setCut(cut + step);
});

// ---- strengths ------------------------------------------------------------------------------------------------------
const slider = $("slider");
const frames = () => state.frames || [];
const sides = () => state.sides || ["before", "after"];
const between = (words) => words.replace("before and after", sides().join(" and "));
const nearest = (strength) =>
  frames().reduce((best, f) => (!best || Math.abs(f.strength - strength) < Math.abs(best.strength - strength) ? f : best), null);

function show(strength) {
  state.strength = strength;
  const frame = nearest(strength);
  const varied = state.low !== undefined; // else there is one picture, and nothing to choose between
  for (const name of ["slider", "strip", "strength"]) $(name).hidden = !varied;
  slider.value = strength;
  const span = slider.max - slider.min;
  slider.style.setProperty("--at", `${(100 * (strength - slider.min)) / span}%`);
  slider.style.setProperty("--zero", `${(100 * (0 - slider.min)) / span}%`);
  $("strength").textContent = signed(units(strength), 2);
  slider.setAttribute("aria-valuetext", `${signed(units(strength), 2)} times the suggested strength`);
  if (!frame) return;
  $("after").src = frame.image;
  $("save").href = frame.image;
  // The picture is not yet what the title says; or there is a button that asks for a size.
  $("save").hidden = Boolean(state.busy) || state.photo !== undefined;
  const stem = (state.name || "edited").toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60);
  const shown = Number(units(frame.strength).toFixed(3));
  const file = varied ? `${stem}_${shown}` : stem;
  $("save").download = `${file}.${frame.image.startsWith("data:image/png") ? "png" : "webp"}`;
  takeNumbers(file);
  $("after").alt = varied ? `${state.name || "Edited"}, strength ${shown}` : state.name || "Edited";
  root.dataset.shown = frame.strength;
  for (const button of $("strip").children) {
    const on = near(Number(button.dataset.strength), frame.strength);
    button.setAttribute("aria-pressed", on);
    if (on) $("strip").scrollLeft = button.offsetLeft - $("strip").offsetLeft - $("strip").clientWidth / 2 + 32;
  }
  readout(frame.measures);
  outdate(frame.image);
}
slider.addEventListener("input", () => {
  let value = Number(slider.value);
  const close = nearest(value);
  if (close && Math.abs(close.strength - value) < (slider.max - slider.min) / 80) value = close.strength;
  look(value);
});
// All numbers of a result in one file beside the picture, of every strength; made only when they are asked for.
let stem = "edited";
function takeNumbers(name) {
  stem = name;
  for (const part of ["numbers", "csv"]) $(part).hidden = Boolean(state.busy) || !frames().some((frame) => frame.measures);
}
function numbers() {
  const share = (c) => Number(units(c).toFixed(4));
  const list = frames().map(({ strength, measures }) => ({ strength: share(strength), "raw strength": strength, ...measures }));
  return { result: state.name, ...state.made, seconds: state.seconds, "shown strength": share(nearest(state.strength).strength), strengths: list };
}
function table() {
  const rows = [["strength", "measure", ...sides(), "change in standard deviations", "low", "high"]];
  for (const { attributes = [], ...frame } of numbers().strengths) {
    for (const key of ["s_dir", "identity", "segmentation", "distance"]) if (typeof frame[key] === "number") rows.push([frame.strength, key, "", frame[key], "", "", ""]);
    for (const a of attributes) rows.push([frame.strength, a.name, a.before, a.after, a.change, a.low, a.high]);
  }
  return rows.map((row) => row.map((cell) => (/[",\n]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : cell)).join(",")).join("\n");
}
function give(part, ending, kind, content) {
  $(part).addEventListener("click", () => {
    if ($(part).href.startsWith("blob:")) URL.revokeObjectURL($(part).href);
    $(part).href = URL.createObjectURL(new Blob([content()], { type: kind }));
    $(part).download = `${stem}.${ending}`;
  });
  $(part).href = "#";
}
give("numbers", "json", "application/json", () => JSON.stringify(numbers(), null, 2));
give("csv", "csv", "text/csv", table);
function look(strength) {
  show(strength);
  chosen = { result: state.result, strength };
}
function tell() {
  if (state.result !== undefined) trigger("select", { result: state.result, strength: state.strength });
}
slider.addEventListener("keydown", (event) => { // a step of the slider's own is too small to leave a strength of the strip
  const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  slider.value = Number(slider.value) + (step * (slider.max - slider.min)) / 30;
  look(Number(slider.value));
});
slider.addEventListener("keyup", (event) => {
  if (event.key.startsWith("Arrow")) slider.dispatchEvent(new Event("change"));
});
slider.addEventListener("change", () => {
  const close = nearest(state.strength);
  tell();
  if (close && !near(close.strength, state.strength)) {
    note("Computing this strength exactly …");
    trigger("release", { strength: state.strength });
  }
});

// ---- the panel that Save opens below: of one picture; it closes when another is shown, or when Save is pressed again ----
let saved = null; // the image that it is of
function panelBelow() {
  if (state.kept) return null;
  for (let node = root.parentElement; node && node.getAttribute("role") !== "tabpanel"; node = node.parentElement) {
    const panel = node.querySelector(".keeping");
    if (panel) return panel;
  }
  return null;
}
function outdate(image) {
  if (saved !== null && image !== saved) panelBelow()?.classList.add("closed");
}
$("photo").addEventListener("click", () => {
  const panel = panelBelow();
  const image = nearest(state.strength)?.image;
  if (panel && image === saved) {
    panel.classList.toggle("closed");
    if (panel.classList.contains("closed") || panel.offsetParent) return;
  }
  saved = image;
  trigger("download", { strength: Number(root.dataset.shown) });
});

function drawStrip() {
  const strip = $("strip");
  const wanted = `${state.unit || 1}:${state.strip || []}`;
  if (strip.dataset.drawn !== wanted) strip.replaceChildren(...(state.strip || []).map(thumbnail));
  strip.dataset.drawn = wanted; // a button that vanishes under a finger is not clicked
  for (const button of strip.children) {
    const frame = frames().find((f) => near(f.strength, Number(button.dataset.strength)));
    button.disabled = !frame;
    const image = button.querySelector("img");
    image.hidden = !frame;
    button.querySelector("i").hidden = Boolean(frame);
    if (frame && image.getAttribute("src") !== frame.image) image.src = frame.image;
  }
}
function thumbnail(strength) {
  const button = make("button");
  button.type = "button";
  button.dataset.strength = strength;
  button.title = `Strength ${Number(units(strength).toFixed(3))}`;
  button.append(Object.assign(make("img"), { alt: "" }), make("i"), make("span", "", signed(units(strength), Number.isInteger(Number((units(strength) * 2).toFixed(6))) ? 1 : 2)));
  button.addEventListener("click", () => {
    look(strength);
    tell();
  });
  return button;
}

// ---- read-outs ------------------------------------------------------------------------------------------------------
const MEASURES = [
  ["s_dir", "Direction match", "of 1", "Whether the picture changed the way the words did (S_dir). 1 is exactly so, 0 unrelated, −1 the opposite."],
  ["identity", "Same person", "of 1", "Similarity of identity between before and after, by an independent network. 1 is the same person."],
  ["segmentation", "Same parts", "of 1", "How much of the picture shows the same part of the face as before (segmentation consistency). A change of colour keeps all of it, an opened mouth does not and should not."],
  ["distance", "Visible change", "0 is none", "Perceptual distance between before and after. 0 is no change at all; above 1 little of the picture is as it was."],
  ["seconds", "Time", "s", "Seconds that this edit took on the machine."],
];
const FINE = { seconds: 0.1, distance: 0.095 }; // below this, three digits
// An explanation opens by a tap, a click or a key; a pointer that rests there sees it as well.
function explained(node, words) {
  node.title = words;
  node.tabIndex = 0;
  node.setAttribute("role", "button");
  node.setAttribute("aria-expanded", "false");
  const toggle = () => {
    const open = node.getAttribute("aria-expanded") !== "true";
    node.setAttribute("aria-expanded", open);
    node.querySelector(".explanation")?.remove();
    if (open) node.append(make("small", "explanation", words));
  };
  node.addEventListener("click", toggle);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    toggle();
  });
}
function readout(measures) {
  const panel = $("readout");
  panel.hidden = !measures;
  if (!measures) return;
  const known = { ...measures, seconds: state.seconds };
  $("measures").replaceChildren(
    ...MEASURES.filter(([key]) => typeof known[key] === "number").map(([key, label, scale, title]) => {
      const tile = make("div", "tile");
      tile.dataset.measure = key;
      const digits = known[key] < FINE[key] ? 3 : key === "seconds" ? 1 : 2;
      tile.append(make("b", "", known[key].toFixed(digits)), make("i", "", scale), make("span", "", label));
      explained(tile, between(title));
      return tile;
    }),
  );
  const missing = measures.missing || [];
  $("missing").hidden = missing.length === 0;
  $("missing").replaceChildren(...missing.map((words) => make("li", "", words)));
  const inside = state.sides ? state.sides.map((side) => `in ${side}`) : sides();
  const rows = (measures.attributes || []).slice(0, 7);
  $("attributes").hidden = rows.length === 0;
  $("rows").replaceChildren(
    ...rows.map((row) => {
      const place = (value) => Math.min(100, Math.max(0, (100 * (value - row.low)) / (row.high - row.low)));
      const line = make("div", "row");
      const bar = make("div", "bar");
      const [a, b] = [place(row.before), place(row.after)];
      bar.style.setProperty("--from", `${Math.min(a, b)}%`);
      bar.style.setProperty("--to", `${Math.max(a, b)}%`);
      bar.style.setProperty("--was", `${a}%`);
      bar.style.setProperty("--now", `${b}%`);
      bar.append(make("i"), make("s"), make("u"));
      // Attributes have scales of their own, from low to high: shares of it can be compared.
      const share = (value) => `${Math.round((100 * (value - row.low)) / (row.high - row.low))}%`;
      const margin = 0.02 * (row.high - row.low); // what the instruments cannot tell from the end of the scale
      const still = Math.abs(row.change) < 0.25;
      const outside = row.after > row.high + margin || row.after < row.low - margin;
      const beyond = outside && !still; // what the edit did not do is no alarm
      line.append(make("span", "name", row.name), bar, make("span", "value", share(row.after) + (beyond ? " !" : "")));
      line.classList.toggle("beyond", beyond);
      const scale = `its scale goes from ${row.low} to ${row.high}`;
      explained(
        line,
        `${row.name}: ${share(row.before)} of its range ${inside[0]}, ${share(row.after)} ${inside[1]}, a change of ${signed(row.change, 1)} standard deviations ` +
          `(${row.before.toFixed(2)} → ${row.after.toFixed(2)}; ${scale})${outside ? ". Beyond what pictures of this model have" : ""}.`,
      );
      line.classList.toggle("still", still);
      return line;
    }),
  );
  $("beyond").hidden = !$("rows").querySelector(".beyond");
}

// ---- state from the server ------------------------------------------------------------------------------------------
function note(text, fraction, bad) {
  const line = $("note");
  line.textContent = text || "";
  line.classList.toggle("bad", Boolean(bad));
  $("progress").style.setProperty("--done", `${Math.round(100 * (fraction ?? 0))}%`);
  $("progress").classList.toggle("on", fraction !== undefined && fraction !== null);
}
function draw() {
  state = { ...(props.value || {}) };
  const { before, preview, low, high } = state;
  root.classList.toggle("empty", !before);
  root.classList.toggle("busy", Boolean(state.busy));
  root.setAttribute("aria-busy", Boolean(state.busy));
  root.classList.toggle("stale", Boolean(state.stale));
  $("before").src = before || "";
  const edited = frames().length > 0;
  canvas.classList.toggle("compare", edited);
  $("after").hidden = !edited && !preview;
  canvas.classList.toggle("preview", !edited && Boolean(preview));
  $("title").textContent = state.name || "";
  const tags = state.tags || ["Before", "After"];
  root.querySelectorAll(".tag").forEach((tag, index) => (tag.textContent = tags[index]));
  root.querySelectorAll(".attributes h4 span").forEach((side, index) => (side.textContent = sides()[index]));
  handle.setAttribute("aria-label", between("Compare before and after"));
  $("controls").hidden = !edited || Boolean(state.kept);
  canvas.style.aspectRatio = state.aspect || "";
  $("foreign").hidden = !state.foreign;
  if (state.foreign) {
    const { words, nearest: image, others } = state.foreign;
    $("nearest").src = image;
    $("foreign-words").textContent = words;
    $("foreign-others").textContent = others;
  }
  $("photo").textContent = state.photo ? "Save, or back into the photo" : state.photo === null ? "Save, or put it back" : "Save";
  $("photo").hidden = state.photo === undefined || Boolean(state.busy);
  $("hint").hidden = edited || Boolean(state.busy);
  $("about").hidden = edited || Boolean(state.plain);
  if (state.steps) {
    $("steps").replaceChildren(
      ...state.steps.map((text) => {
        const step = make("li");
        step.append(make("span", "", text));
        return step;
      }),
    );
  }
  $("hint").textContent = state.hint || "";
  note(state.note, state.fraction, state.bad);
  const { top, height: tall } = canvas.getBoundingClientRect(); // on a phone it stays where it can be seen
  if (state.busy && !wasBusy && (top > window.innerHeight - 160 || top < -tall / 2)) {
    canvas.scrollIntoView({ behavior: "smooth", block: "start" });
  }
  root.classList.toggle("small", Boolean(state.small));
  const panel = state.kept && root.closest(".keeping"); // it opens below what was pressed
  if (panel) {
    panel.classList.remove("closed");
    requestAnimationFrame(() => { // once it has its place on the page
      const { top, bottom, height } = panel.getBoundingClientRect();
      if (height && (top > window.innerHeight - 160 || bottom < 160)) panel.scrollIntoView({ behavior: "smooth", block: "start" });
    });
  }
  wasBusy = Boolean(state.busy);
  root.dataset.frames = frames().length;
  delete root.dataset.shown;
  if (!edited) {
    outdate(null);
    drawStrip();
    readout(null);
    if (preview) $("after").src = preview;
    return;
  }
  if (low !== undefined) {
    slider.min = low;
    slider.max = high;
    slider.step = (high - low) / 120;
  }
  drawStrip();
  const kept = chosen && state.result !== undefined && chosen.result === state.result;
  show(kept ? chosen.strength : (state.strength ?? 1));
}
setCut(50);
draw();
watch("value", draw);
