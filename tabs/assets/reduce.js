// Large photographs are reduced in the browser before they are sent, whichever chooser they are given to.
const [MAX_SIDE, MAX_BYTES] = [4096, 6 * 2 ** 20];
const [RECORD, MAX_RECORD] = ["h-space studio", 4000]; // as in core/photo/record.py
/** What a PNG's text chunk or a JPEG's comment says of how the picture was made, as bytes; nothing for other files. */
async function recordOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const view = new DataView(bytes.buffer);
  const text = (part) => new TextDecoder().decode(part);
  const fits = (said) => said.length <= MAX_RECORD && text(said).includes(RECORD);
  if (bytes.length > 20 && view.getUint32(0) === 0x89504e47) {
    for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
      const chunk = bytes.subarray(at + 8, at + 8 + view.getUint32(at));
      const kind = text(bytes.subarray(at + 4, at + 8));
      if (!/^(iTXt|tEXt)$/.test(kind) || !text(chunk.subarray(0, 80)).startsWith(`${RECORD}\0`)) continue;
      let start = RECORD.length + 1;
      if (kind === "iTXt") {
        if (chunk[start] !== 0) continue; // compressed, which the app never writes
        start = chunk.indexOf(0, start + 2) + 1; // behind the language ...
        start = chunk.indexOf(0, start) + 1; // ... and the translated keyword
      }
      if (fits(chunk.subarray(start))) return chunk.subarray(start);
    }
  } else if (bytes.length > 4 && view.getUint16(0) === 0xffd8) {
    for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; at += 2 + view.getUint16(at + 2)) {
      const said = bytes.subarray(at + 4, at + 2 + view.getUint16(at + 2));
      if (bytes[at + 1] === 0xfe && fits(said)) return said;
    }
  }
  return null;
}
/** A JPEG of the canvas with a comment: behind the first segment, which has to be JFIF's. */
async function withComment(jpeg, said) {
  const view = new DataView(await jpeg.slice(0, 6).arrayBuffer());
  const place = view.getUint16(2) === 0xffe0 ? 4 + view.getUint16(4) : 2;
  const head = new Uint8Array([0xff, 0xfe, (said.length + 2) >> 8, (said.length + 2) & 0xff]);
  return new Blob([jpeg.slice(0, place), head, said, jpeg.slice(place)], { type: jpeg.type });
}
/** The same picture, reduced if it is large and the browser can read it; what made it is still said. */
async function reduced(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
    const scale = Math.min(1, MAX_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
    if (scale === 1 && file.size <= MAX_BYTES) return file;
    const paper = document.createElement("canvas");
    [paper.width, paper.height] = [image.naturalWidth, image.naturalHeight].map((side) => Math.max(1, Math.round(side * scale)));
    const context = paper.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff"; // shows through where it is transparent
    context.fillRect(0, 0, paper.width, paper.height);
    context.drawImage(image, 0, 0, paper.width, paper.height);
    let blob = null;
    for (const quality of [0.92, 0.8, 0.6]) {
      blob = await new Promise((done) => paper.toBlob(done, "image/jpeg", quality));
      if (blob && blob.size <= MAX_BYTES) break;
    }
    const said = blob && (await recordOf(file));
    if (said) blob = await withComment(blob, said);
    return blob ? new File([blob], `${file.name.replace(/\.[^.]*$/, "") || "photo"}.jpg`, { type: "image/jpeg" }) : file;
  } catch {
    return file; // the server says what is wrong with it
  } finally {
    URL.revokeObjectURL(image.src);
  }
}
if (!window.photographsAreReduced) {
  window.photographsAreReduced = true;
  const ours = new WeakSet();
  const send = async (input, file) => {
    const list = new DataTransfer();
    list.items.add(await reduced(file));
    input.files = list.files;
    const event = new Event("change", { bubbles: true });
    ours.add(event);
    input.dispatchEvent(event);
  };
  const wanted = (file) => file && (file.type.startsWith("image/") || /\.(jpe?g|png|webp|avif)$/i.test(file.name)) && file.size > 2 ** 20;
  document.addEventListener(
    "change",
    (event) => {
      const input = event.target;
      if (ours.has(event) || !input.matches?.(".upload input[type=file]") || !wanted(input.files?.[0])) return;
      event.stopImmediatePropagation();
      send(input, input.files[0]);
    },
    true,
  );
  document.addEventListener(
    "drop",
    (event) => {
      const input = event.target.closest?.(".upload")?.querySelector("input[type=file]");
      const file = event.dataTransfer?.files?.[0];
      if (!input || !wanted(file)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      send(input, file);
    },
    true,
  );
  // Pasted by keys, with the chooser in sight and no text field that the keys are for.
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    const inputs = [...document.querySelectorAll(".upload input[type=file]")];
    const input = inputs.find((one) => one.closest(".upload").offsetParent !== null);
    if (!file || !input || event.target.matches?.("input, textarea, [contenteditable]")) return;
    event.preventDefault();
    send(input, file);
  });
  // Pasted by the chooser's button, which asks for what the clipboard holds.
  const clipboard = navigator.clipboard;
  if (clipboard?.read) {
    const read = clipboard.read.bind(clipboard);
    clipboard.read = async (...how) => Promise.all((await read(...how)).map(async (item) => {
      const type = item.types.find((one) => one.startsWith("image/"));
      if (!type) return item;
      const file = new File([await item.getType(type)], `clipboard.${type.slice(6)}`, { type });
      const small = wanted(file) ? await reduced(file) : file;
      return { types: [small.type], getType: async () => small };
    }));
  }
}
