// The square of a photograph that the model will see: on a found face, by three taps, or moved, scaled and turned by
// mouse, touch and keyboard. What the model will see is drawn here; the server hears of the square when it is used.
const root = element.querySelector(".cropper");
const $ = (name) => root.querySelector(name);
const frame = $(".frame");
const inner = $(".inner");
const square = $(".square");
const picture = $(".frame img");
const canvas = $("canvas");
const [size, angle] = [$(".size"), $(".angle")];
const POINTS = ["the eye on the left", "the eye on the right", "the mouth"];
const SMALLEST = 24; // pixels of the photograph
const TALLEST = 440; // pixels of the page
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const IN_USE = "This square is in use. Move it and use it again whenever you like.";
let about = null; // the value: the photograph and what is known of it
let used = null; // the square that was used last, as JSON
let at = null; // { x, y, side, angle } in the photograph's pixels and degrees
let touched = false;
let taps = null; // { points: three of [x, y], next: the one that the next tap sets }
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const radians = () => (at.angle * Math.PI) / 180;

// ---- the square -----------------------------------------------------------------------------------------------------
const largest = () => 1.5 * Math.max(about.width, about.height);
function set(change, byHand = true) {
  const next = { ...at, ...change };
  next.x = clamp(next.x, 0, about.width);
  next.y = clamp(next.y, 0, about.height);
  next.side = clamp(next.side, SMALLEST, largest());
  next.angle = ((((next.angle + 180) % 360) + 360) % 360) - 180;
  at = next;
  touched = touched || byHand;
  draw();
}
function draw() {
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  square.style.width = percent(at.side, about.width);
  square.style.left = percent(at.x, about.width);
  square.style.top = percent(at.y, about.height);
  square.style.transform = `translate(-50%, -50%) rotate(${at.angle}deg)`;
  size.value = Math.log(at.side / SMALLEST) / Math.log(largest() / SMALLEST);
  angle.value = at.angle;
  const zoom = tool("closer"); // of a square that is as large as the photograph there is no closer look
  zoom.disabled = zoom.getAttribute("aria-pressed") !== "true" && nearer() < 1.05;
  root.dataset.square = JSON.stringify(at);
  for (const [index, face] of (about.faces || []).entries())
    $(".found").children[index]?.setAttribute("aria-pressed", Math.hypot(face.x - at.x, face.y - at.y) < 1 && Math.abs(face.side - at.side) < 1);
  preview();
}
function preview() {
  if (!picture.complete || !picture.naturalWidth) return;
  canvas.width = canvas.height = about.resolution;
  const context = canvas.getContext("2d");
  const scale = about.resolution / at.side;
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#8886";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.translate(canvas.width / 2, canvas.height / 2);
  context.rotate(-radians());
  context.scale(scale, scale);
  context.drawImage(picture, -at.x, -at.y, about.width, about.height);
}
picture.addEventListener("load", () => about && preview());

// ---- mouse and touch ------------------------------------------------------------------------------------------------
/** The photograph's point under a pointer. */
function point(event) {
  const box = inner.getBoundingClientRect();
  return [((event.clientX - box.left) * about.width) / box.width, ((event.clientY - box.top) * about.height) / box.height];
}
const held = new Map(); // the pointers on the square, and where they are
let grip = null; // what they have gripped
function gripped(part) {
  const [first, second] = [...held.values()];
  grip = { part, from: { ...at }, first, second };
}
square.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  square.focus({ preventScroll: true });
  square.setPointerCapture(event.pointerId);
  held.set(event.pointerId, point(event));
  gripped(event.target.classList.contains("turn") ? "turn" : event.target.classList.contains("scale") ? "scale" : "all");
});
square.addEventListener("pointermove", (event) => {
  if (!held.has(event.pointerId)) return;
  held.set(event.pointerId, point(event));
  const { part, from, first, second } = grip;
  const [now, other] = [...held.values()];
  if (second && other) {
    const was = [second[0] - first[0], second[1] - first[1]];
    const is = [other[0] - now[0], other[1] - now[1]];
    const turned = Math.atan2(is[1], is[0]) - Math.atan2(was[1], was[0]);
    const middle = (i) => (now[i] + other[i] - first[i] - second[i]) / 2;
    set({
      x: from.x + middle(0),
      y: from.y + middle(1),
      side: (from.side * Math.hypot(...is)) / Math.max(Math.hypot(...was), 1),
      angle: from.angle + (turned * 180) / Math.PI,
    });
  } else if (part === "all") {
    set({ x: from.x + now[0] - first[0], y: from.y + now[1] - first[1] });
  } else {
    const away = (p) => [p[0] - from.x, p[1] - from.y];
    const [a, b] = [away(first), away(now)];
    if (part === "scale") set({ side: (from.side * Math.hypot(...b)) / Math.max(Math.hypot(...a), 1) });
    else set({ angle: from.angle + ((Math.atan2(b[1], b[0]) - Math.atan2(a[1], a[0])) * 180) / Math.PI });
  }
});
for (const end of ["pointerup", "pointercancel"])
  square.addEventListener(end, (event) => {
    held.delete(event.pointerId);
    if (held.size) gripped("all");
  });

// ---- keyboard, sliders, buttons -------------------------------------------------------------------------------------
square.addEventListener("keydown", (event) => {
  const fine = event.shiftKey ? 0.1 : 1;
  const step = fine * Math.max(1, 0.04 * at.side);
  if (KEYS[event.key]) set({ x: at.x + step * KEYS[event.key][0], y: at.y + step * KEYS[event.key][1] });
  else if (event.key === "+" || event.key === "=") set({ side: at.side * (1 + 0.05 * fine) });
  else if (event.key === "-" || event.key === "_") set({ side: at.side / (1 + 0.05 * fine) });
  else if (event.key === "]" || event.key === "}") set({ angle: at.angle + 2 * fine });
  else if (event.key === "[" || event.key === "{") set({ angle: at.angle - 2 * fine });
  else if (event.key === "Enter") use();
  else return;
  event.preventDefault();
});
size.addEventListener("input", () => set({ side: SMALLEST * (largest() / SMALLEST) ** Number(size.value) }));
angle.addEventListener("input", () => set({ angle: Number(angle.value) }));
function use() {
  said(IN_USE);
  touched = true;
  used = JSON.stringify(at);
  stopTaps();
  trigger("release", at);
}
$(".use").addEventListener("click", use);
const tool = (name) => root.querySelector(`[data-do=${name}]`);
tool("largest").addEventListener("click", () => {
  stopTaps();
  set({ x: about.width / 2, y: about.height / 2, side: Math.min(about.width, about.height), angle: 0 });
});
tool("closer").addEventListener("click", () => closer(tool("closer").getAttribute("aria-pressed") !== "true"));
function nearer() {
  return clamp((0.62 * Math.min(about.width, about.height)) / at.side, 1, 12);
}
function closer(on) {
  tool("closer").setAttribute("aria-pressed", on);
  const zoom = on ? nearer() : 1;
  const [x, y] = [at.x / about.width, at.y / about.height];
  const shift = (part) => `${clamp(50 - 100 * zoom * part, 100 - 100 * zoom, 0)}%`;
  inner.style.transform = on ? `translate(${shift(x)}, ${shift(y)}) scale(${zoom})` : "";
  inner.style.setProperty("--zoom", zoom);
}

// ---- three taps -----------------------------------------------------------------------------------------------------
/** CelebA-HQ's square on two eyes and the mouth (`core.photo.placement.align`). */
function align([left, right, mouth]) {
  const eyes = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2];
  const across = [right[0] - left[0], right[1] - left[1]];
  const down = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
  const x = [across[0] + down[1], across[1] - down[0]];
  const framing = about.framing;
  return {
    x: eyes[0] + framing.down * down[0],
    y: eyes[1] + framing.down * down[1],
    side: 2 * Math.max(framing.eyes * Math.hypot(...across), framing.mouth * Math.hypot(...down)),
    angle: (Math.atan2(x[1], x[0]) * 180) / Math.PI,
  };
}
/** Where the three points lie in a square, for whoever sets them with the keyboard. */
function usual() {
  const half = at.side / 2;
  const [across, down] = [half / about.framing.eyes, half / about.framing.mouth];
  const place = (x, y) => [at.x + x * Math.cos(radians()) - y * Math.sin(radians()), at.y + x * Math.sin(radians()) + y * Math.cos(radians())];
  const up = -about.framing.down * down;
  return [place(-across / 2, up), place(across / 2, up), place(0, up + down)];
}
function startTaps() {
  taps = { points: usual(), next: 0 };
  tool("taps").setAttribute("aria-pressed", true);
  root.classList.add("tapping");
  $(".taps").hidden = false;
  drawTaps();
}
function stopTaps() {
  taps = null;
  tool("taps").setAttribute("aria-pressed", false);
  root.classList.remove("tapping");
  $(".taps").hidden = true;
}
tool("taps").addEventListener("click", () => (taps ? stopTaps() : startTaps()));
function drawTaps() {
  for (const [index, button] of [...$(".taps").children].entries()) {
    const [x, y] = taps.points[index];
    button.style.left = `${(100 * x) / about.width}%`;
    button.style.top = `${(100 * y) / about.height}%`;
    button.classList.toggle("next", taps.next === index);
    button.classList.toggle("set", index < taps.next);
  }
  $(".taps").classList.toggle("done", taps.next >= 3); // until then no point is in the way of the next tap
  said(taps.next < 3 ? `Tap ${POINTS[taps.next]}${taps.next ? "" : " (of the face as you see it)"}.` : "The square follows the three points. Drag one to correct it.");
}
function setTap(index, where) {
  taps.points[index] = [clamp(where[0], 0, about.width), clamp(where[1], 0, about.height)];
  if (taps.next >= 3) set(align(taps.points));
  drawTaps();
}
inner.addEventListener("click", (event) => {
  if (!taps || event.target.closest(".taps button") || taps.next >= 3) return;
  taps.next += 1;
  setTap(taps.next - 1, point(event));
});
for (const [index, name] of POINTS.entries()) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", `${name[0].toUpperCase()}${name.slice(1)}: move with the arrow keys`);
  button.append(String(index + 1));
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId);
    event.preventDefault();
    button.focus({ preventScroll: true });
  });
  button.addEventListener("pointermove", (event) => {
    if (!button.hasPointerCapture(event.pointerId)) return;
    taps.next = Math.max(taps.next, index + 1);
    setTap(index, point(event));
  });
  button.addEventListener("keydown", (event) => {
    const move = KEYS[event.key];
    if (event.key === "Enter" && taps.next >= 3) use();
    if (!move) return;
    event.preventDefault();
    taps.next = 3; // by keyboard all three points are there from the beginning
    const step = (event.shiftKey ? 0.1 : 1) * Math.max(1, 0.02 * at.side);
    setTap(index, [taps.points[index][0] + step * move[0], taps.points[index][1] + step * move[1]]);
  });
  $(".taps").append(button);
}

// ---- from the server ------------------------------------------------------------------------------------------------
function said(words) {
  $(".said").textContent = words || "";
}
function faces() {
  $(".found").replaceChildren(
    ...(about.faces || []).map((face, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = index + 1;
      button.setAttribute("aria-label", `Face ${index + 1}`);
      button.style.left = `${(100 * face.x) / about.width}%`;
      button.style.top = `${(100 * face.y) / about.height}%`;
      button.style.width = `${(55 * face.side) / about.width}%`;
      button.style.transform = `translate(-50%, -50%) rotate(${face.angle}deg)`;
      button.addEventListener("click", () => {
        stopTaps();
        set(face);
        said(`Face ${index + 1} is chosen. Move the square if you like, and use it.`);
      });
      return button;
    }),
  );
  $(".found").hidden = (about.faces || []).length < 2;
}
function take() {
  const value = props.value;
  root.hidden = !value;
  if (!value) {
    about = null;
    return;
  }
  const same = about && about.id === value.id;
  about = value;
  if (!same) {
    stopTaps();
    picture.src = value.image;
    frame.style.aspectRatio = `${value.width} / ${value.height}`;
    frame.style.width = `min(100%, ${(TALLEST * value.width) / value.height}px)`;
    touched = false;
    used = null;
    at = { ...value.square };
    closer(false);
  }
  tool("taps").hidden = !value.framing;
  faces();
  said(used === JSON.stringify(at) ? IN_USE : value.words); // faces may be found after a square was used
  set(touched ? {} : value.square, false);
}
take();
watch("value", take);
