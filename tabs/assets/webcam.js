// A camera that is not there, is refused or is in use: said in words at the chooser that asked for it, with the way to
// go on. (The image component itself leaves the rejected promise to the console.)
if (!window.camerasAreSaid) {
  window.camerasAreSaid = true;
  const WORDS = {
    NotFoundError: "No camera was found on this device.",
    NotAllowedError: "The camera was not allowed. Allow it in your browser's settings for this page (beside the address)",
    NotReadableError: "The camera is in use by another program, or does not answer. Close the other program",
    insecure: "Browsers give a camera to secure pages only (https), and this page is not.",
    other: "The camera can't be used.",
  };
  const SAME = { DevicesNotFoundError: "NotFoundError", OverconstrainedError: "NotFoundError", PermissionDeniedError: "NotAllowedError", TrackStartError: "NotReadableError", AbortError: "NotReadableError", SecurityError: "insecure", TypeError: "insecure" };
  let asked = null; // the chooser whose camera was asked for last
  const chooser = () => (asked?.isConnected ? asked : [...document.querySelectorAll(".upload")].find((one) => one.offsetParent));
  function quiet() {
    for (const said of document.querySelectorAll(".camera-words")) said.remove();
  }
  function say(kind) {
    quiet();
    const words = document.createElement("div");
    words.className = "message camera-words";
    words.setAttribute("role", "alert");
    const text = WORDS[kind] || WORDS.other;
    words.append(text.endsWith(".") ? `${text} Upload a picture instead.` : `${text}, or upload a picture instead.`);
    const instead = document.createElement("button");
    instead.type = "button";
    instead.textContent = "Upload a picture";
    const here = chooser();
    instead.addEventListener("click", () => {
      here?.querySelector('[aria-label="Upload file"]')?.click();
      quiet();
    });
    words.append(instead);
    here?.after(words);
  }
  const failed = (error) => say(WORDS[error?.name] ? error.name : SAME[error?.name] || "other");
  const devices = navigator.mediaDevices;
  if (devices?.getUserMedia) {
    const ask = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (wanted) => {
      try {
        const stream = await ask(wanted);
        quiet();
        return stream;
      } catch (error) {
        if (!wanted?.video) throw error;
        failed(error);
        return new Promise(() => {}); // whoever waits for the camera has been told
      }
    };
  } else {
    const none = async () => {
      say("insecure");
      return new Promise(() => {});
    };
    Object.defineProperty(navigator, "mediaDevices", { configurable: true, value: { getUserMedia: none, enumerateDevices: async () => [], addEventListener() {} } });
  }
  // Before a visitor is asked to allow a camera that is not there.
  document.addEventListener(
    "click",
    async (event) => {
      const upload = event.target.closest?.(".upload");
      if (!upload) return;
      asked = upload;
      const button = event.target.closest("button");
      if (button?.getAttribute("aria-label") !== "Capture from camera") {
        if (button?.getAttribute("aria-label")) quiet();
        return;
      }
      if (!devices?.getUserMedia) return say("insecure");
      const found = await devices.enumerateDevices().catch(() => null);
      if (found && !found.some((device) => device.kind === "videoinput")) say("NotFoundError");
    },
    true,
  );
  document.addEventListener("change", (event) => event.target.closest?.(".upload") && quiet(), true);
}
