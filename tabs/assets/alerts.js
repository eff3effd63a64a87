// What is refused is said where it can be seen, and no longer once it is seen to; so is how far a training is, which begins
// with the words' form going away above it.
const seen = (node) => {
  const { top, bottom } = node.getBoundingClientRect();
  return bottom > 0 && top < window.innerHeight - 20;
};
function look(node) {
  requestAnimationFrame(() => {
    if (node.isConnected && node.offsetParent && !seen(node)) node.scrollIntoView({ behavior: "smooth", block: "center" });
  });
}
let asked = false; // for a training that has not begun
document.addEventListener("click", (event) => {
  asked ||= Boolean(event.target.closest("#train"));
});
new MutationObserver((changes) => {
  if (asked && document.querySelector("#training .training") && !document.querySelector("#train")?.offsetParent) {
    asked = false;
    setTimeout(() => look(document.querySelector("#training")), 100);
  }
  for (const { addedNodes } of changes) {
    for (const node of addedNodes) {
      if (node.nodeType !== Node.ELEMENT_NODE) continue;
      const alert = node.matches(".message[role=alert]") ? node : node.querySelector(".message[role=alert]");
      if (alert) look(alert);
    }
  }
}).observe(document.body, { subtree: true, childList: true });

document.addEventListener("input", (event) => {
  if (!event.target.closest("#source-text, #target-text")) return;
  for (const refused of document.querySelectorAll("#training > .message[role=alert], #training .prose > .message[role=alert]")) refused.hidden = true;
});

// Another file is chosen or dropped: what was said of the one before is over, also where the page itself refuses this one.
for (const kind of ["change", "drop"]) {
  document.addEventListener(
    kind,
    (event) => {
      const section = event.target.closest?.(".upload")?.closest(".section");
      for (const refused of section?.querySelectorAll(".upload-message .message[role=alert]") || []) refused.hidden = true;
    },
    true,
  );
}
