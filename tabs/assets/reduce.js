// Large photographs are reduced in the browser before they are sent, whichever chooser they are given to.
const [MAX_SIDE, MAX_BYTES] = [4096, 6 * 2 ** 20];
/** The same picture, reduced if it is large and the browser can read it. */
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
