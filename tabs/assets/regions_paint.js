// Painted regions: boxes and masks with strokes that add or erase, drawn over the picture and asked for what they cover.
const PROBED = 128; // side at which regions are asked what they cover
const images = new Map(); // of masks, by their URL
const sheet = document.createElement("canvas");
const probe = document.createElement("canvas");

/** The picture of a mask; null while it is on its way, and then everything is drawn again. */
function imageOf(url) {
  let image = images.get(url);
  if (!image) {
    image = new Image();
    image.onload = () => draw();
    image.src = url;
    images.set(url, image);
  }
  return image.complete && image.naturalWidth ? image : null;
}
/** One region on a canvas of its own, opaque inside. */
function inked(region, canvas, side) {
  canvas.width = canvas.height = side; // also wipes it
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.lineCap = context.lineJoin = "round";
  for (const [left, top, right, bottom] of region.boxes) context.fillRect(left * side, top * side, (right - left) * side, (bottom - top) * side);
  for (const url of region.masks || []) {
    const image = imageOf(url);
    if (image) context.drawImage(image, 0, 0, side, side);
  }
  for (const { points, width, erases } of region.strokes) {
    context.globalCompositeOperation = erases ? "destination-out" : "source-over";
    context.lineWidth = width * side;
    context.beginPath();
    for (const [x, y] of points) context.lineTo(x * side, y * side);
    context.lineTo(points.at(-1)[0] * side, points.at(-1)[1] * side);
    context.stroke();
  }
  context.globalCompositeOperation = "source-over";
  return context;
}
/** What a region covers: (PROBED x PROBED) opacities. */
function covered(region) {
  const { data } = inked(region, probe, PROBED).getImageData(0, 0, PROBED, PROBED);
  return Uint8Array.from({ length: PROBED * PROBED }, (_, i) => data[4 * i + 3]);
}
/** Whether a disc touches what is covered. */
function touches(cover, x, y, width) {
  const [cx, cy, radius] = [x * PROBED, y * PROBED, Math.max((width * PROBED) / 2, 0.71)];
  for (let row = Math.max(0, Math.floor(cy - radius)); row <= Math.min(PROBED - 1, cy + radius); row++)
    for (let column = Math.max(0, Math.floor(cx - radius)); column <= Math.min(PROBED - 1, cx + radius); column++)
      if (cover[row * PROBED + column] > 127 && Math.hypot(column + 0.5 - cx, row + 0.5 - cy) <= radius) return true;
  return false;
}
function paint() {
  const canvas = $("paint");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const style = getComputedStyle(root);
  regions.forEach((region, index) => {
    if (isBox(region)) return; // a frame that can be moved
    const ink = inked(region, sheet, canvas.width);
    ink.globalCompositeOperation = "source-in";
    ink.fillStyle = style.getPropertyValue(`--region-${index % 6}`);
    ink.fillRect(0, 0, canvas.width, canvas.width);
    context.globalAlpha = index === chosen ? 0.55 : 0.38;
    context.drawImage(sheet, 0, 0);
  });
  root.dataset.painted = regions.filter((region) => !isBox(region)).length;
}
