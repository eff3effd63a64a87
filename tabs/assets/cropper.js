// The square that the model will see, moved by mouse, touch or arrow keys over the visitor's picture.
const root = element.querySelector(".cropper");
const frame = root.querySelector(".frame");
const square = root.querySelector(".square");
const zoom = root.querySelector("input");
const picture = root.querySelector("img");
let crop = { x: 0.5, y: 0.42, size: 1 };

function place() {
  const { width, height } = props.value || {};
  if (!width) return;
  const side = crop.size * Math.min(width, height);
  square.style.width = `${(100 * side) / width}%`;
  square.style.height = `${(100 * side) / height}%`;
  square.style.left = `${(100 * crop.x * (width - side)) / width}%`;
  square.style.top = `${(100 * crop.y * (height - side)) / height}%`;
}
const tell = () => trigger("release", crop);
const clamp = (value) => Math.min(1, Math.max(0, value));

let start = null;
square.addEventListener("pointerdown", (event) => {
  square.setPointerCapture(event.pointerId);
  start = { at: [event.clientX, event.clientY], ...crop };
});
square.addEventListener("pointermove", (event) => {
  if (!start) return;
  const box = frame.getBoundingClientRect();
  const [w, h] = [box.width - square.offsetWidth, box.height - square.offsetHeight];
  crop.x = w > 1 ? clamp(start.x + (event.clientX - start.at[0]) / w) : 0.5;
  crop.y = h > 1 ? clamp(start.y + (event.clientY - start.at[1]) / h) : 0.5;
  place();
});
for (const end of ["pointerup", "pointercancel"])
  square.addEventListener(end, () => {
    if (start) tell();
    start = null;
  });
square.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!move) return;
  event.preventDefault();
  crop.x = clamp(crop.x + 0.05 * move[0]);
  crop.y = clamp(crop.y + 0.05 * move[1]);
  place();
  tell();
});
zoom.addEventListener("input", () => {
  crop.size = Number(zoom.value);
  place();
});
zoom.addEventListener("change", tell);

function draw() {
  const value = props.value;
  root.hidden = !value;
  if (!value) return;
  picture.src = value.image;
  frame.style.aspectRatio = `${value.width} / ${value.height}`;
  crop = { x: value.x, y: value.y, size: value.size };
  zoom.min = value.smallest;
  zoom.value = crop.size;
  place();
}
draw();
watch("value", draw);
