// The composition as a mixing desk: a row with a slider per direction. Every change is reported by `release` as
// {what, key, value}; the server answers with the new value.
const root = element.querySelector(".mixer");
const $ = (name) => root.querySelector(`[data-part="${name}"]`);
const tell = (what, key, value) => trigger("release", { what, key, value });
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(Math.abs(value) < 10 ? 2 : 1);
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const ICONS = {
  up: "M5 12l5-5 5 5",
  down: "M5 8l5 5 5-5",
  remove: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  grip: "M7.5 5v.01M12.5 5v.01M7.5 10v.01M12.5 10v.01M7.5 15v.01M12.5 15v.01",
};
function button(label, icon, pressed) {
  const node = make("button", icon ? "icon" : "switch");
  node.type = "button";
  node.title = label;
  node.setAttribute("aria-label", label);
  if (pressed !== undefined) node.setAttribute("aria-pressed", pressed);
  if (icon) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 20 20");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", ICONS[icon]);
    svg.append(path);
    node.append(svg);
  }
  return node;
}

let drag = null; // {key, row, moved}
function row(part, index, count) {
  const line = make("div", "channel");
  line.dataset.key = part.key;
  line.setAttribute("role", "listitem");
  line.classList.toggle("silent", !part.active);

  const grip = button(`Move ${part.name}: drag, or use the arrow keys`, "grip");
  grip.classList.add("grip");
  grip.addEventListener("pointerdown", (event) => {
    if (count < 2) return;
    grip.setPointerCapture(event.pointerId);
    drag = { key: part.key, row: line };
    line.classList.add("dragged");
  });
  grip.addEventListener("pointermove", (event) => {
    if (!drag) return;
    // The neighbours move, not the row itself: moved, it would lose the pointer.
    const middle = (other) => other.getBoundingClientRect().top + other.offsetHeight / 2;
    const [above, below] = [drag.row.previousElementSibling, drag.row.nextElementSibling];
    if (above && event.clientY < middle(above)) $("rows").insertBefore(above, below);
    else if (below && event.clientY > middle(below)) $("rows").insertBefore(below, drag.row);
  });
  for (const end of ["pointerup", "pointercancel"])
    grip.addEventListener(end, () => {
      if (!drag) return;
      const to = [...$("rows").children].indexOf(drag.row);
      drag.row.classList.remove("dragged");
      drag = null;
      if (to !== index) tell("move", part.key, to);
    });
  grip.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    tell("move", part.key, index + step);
  });

  const image = make(part.image ? "img" : "i");
  if (part.image) {
    image.src = part.image;
    image.alt = "";
  }
  const name = make("span", "name", part.name);
  name.title = part.name;

  const slider = make("input");
  slider.type = "range";
  slider.min = Math.min(part.low, part.strength);
  slider.max = Math.max(part.high, part.strength);
  slider.step = "any";
  slider.setAttribute("aria-label", `Strength of ${part.name}`);
  const exact = make("input", "exact");
  exact.type = "number";
  exact.step = (part.high - part.low) / 60;
  exact.setAttribute("aria-label", `Strength of ${part.name} as a number`);
  const span = slider.max - slider.min;
  const show = (value) => {
    slider.style.setProperty("--at", `${(100 * (value - slider.min)) / span}%`);
    slider.style.setProperty("--zero", `${(100 * Math.max(0, -slider.min)) / span}%`);
    exact.value = Number(value.toFixed(Math.abs(value) < 10 ? 2 : 1));
    slider.setAttribute("aria-valuetext", signed(value));
  };
  slider.value = part.strength;
  show(part.strength);
  const snapped = () => {
    const value = Number(slider.value);
    const near = [0, part.unit, -part.unit].find((goal) => Math.abs(goal - value) < span / 60);
    return near ?? Number(value.toFixed(3));
  };
  slider.addEventListener("input", () => show(snapped()));
  slider.addEventListener("change", () => {
    const value = snapped();
    if (value !== part.strength) tell("set", part.key, value);
  });
  slider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    slider.value = Number(slider.value) + (step * (part.high - part.low)) / 30;
    show(Number(slider.value));
  });
  slider.addEventListener("keyup", (event) => {
    if (event.key.startsWith("Arrow")) slider.dispatchEvent(new Event("change"));
  });
  exact.addEventListener("change", () => {
    const value = Number(exact.value);
    if (exact.value !== "" && Number.isFinite(value) && value !== part.strength) tell("set", part.key, value);
    else show(part.strength);
  });

  const mute = button(`Mute ${part.name}`, null, part.muted);
  mute.textContent = "M";
  mute.addEventListener("click", () => tell("mute", part.key, !part.muted));
  const solo = button(`Solo ${part.name}`, null, part.solo);
  solo.textContent = "S";
  solo.addEventListener("click", () => tell("solo", part.key, !part.solo));
  const up = button(`Move ${part.name} up`, "up");
  up.disabled = index === 0;
  up.addEventListener("click", () => tell("move", part.key, index - 1));
  const down = button(`Move ${part.name} down`, "down");
  down.disabled = index === count - 1;
  down.addEventListener("click", () => tell("move", part.key, index + 1));
  const remove = button(`Remove ${part.name}`, "remove");
  remove.addEventListener("click", () => tell("remove", part.key));

  const tools = make("div", "tools");
  tools.append(mute, solo, up, down, remove);
  line.append(grip, image, name, slider, exact, tools);
  return line;
}

// Rows are made anew only when no pointer holds one: a button that vanishes under a finger is not clicked.
let held = false;
let waiting = false;
root.addEventListener("pointerdown", () => (held = true));
for (const end of ["pointerup", "pointercancel"])
  window.addEventListener(end, () => {
    if (!held) return;
    setTimeout(() => {
      held = false;
      if (waiting) draw();
    }, 60); // the click comes after it
  });
function draw() {
  waiting = held;
  if (held) return;
  const { parts = [], locked = false, undo = false } = props.value || {};
  const active = document.activeElement;
  const focused = root.contains(active) && [active.closest(".channel")?.dataset.key, active.getAttribute("aria-label")];
  $("rows").replaceChildren(...parts.map((part, index) => row(part, index, parts.length)));
  $("empty").hidden = parts.length > 0;
  $("undo").disabled = !undo;
  $("clear").hidden = parts.length === 0;
  $("lock").hidden = parts.length < 2;
  $("lock").setAttribute("aria-pressed", locked);
  root.dataset.parts = parts.length;
  if (focused) {
    const line = [...$("rows").children].find((other) => other.dataset.key === focused[0]);
    [...(line?.querySelectorAll("button, input") || [])].find((b) => b.getAttribute("aria-label") === focused[1])?.focus();
  }
}
$("undo").addEventListener("click", () => tell("undo"));
$("clear").addEventListener("click", () => tell("clear"));
$("lock").addEventListener("click", () => tell("lock", null, $("lock").getAttribute("aria-pressed") !== "true"));
draw();
watch("value", draw);
