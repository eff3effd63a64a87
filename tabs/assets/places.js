// Tabs have a place in the address and in the history: Back goes to the tab before, and a link opens one.
const bar = () => document.querySelector("#tabs > .tab-wrapper");
const tabs = () => [...(bar()?.querySelectorAll('button[role="tab"]') || [])].filter((tab) => tab.offsetParent);
const slug = (tab) => tab.textContent.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-");
const selected = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");
const here = () => location.hash.slice(1);
function follow() {
  const first = tabs()[0];
  const wanted = tabs().find((tab) => slug(tab) === here()) || first;
  if (wanted && wanted !== selected()) wanted.click();
}
let last = null;
function record() {
  const now = selected();
  if (!now || slug(now) === last) return;
  const known = last !== null;
  last = slug(now);
  if (last === (here() || slug(tabs()[0]))) return;
  if (known) history.pushState(null, "", `#${last}`);
}
window.addEventListener("popstate", follow);
new MutationObserver(record).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
const started = setInterval(() => {
  if (!selected()) return;
  clearInterval(started);
  last = slug(selected());
  if (here()) follow();
}, 60);
