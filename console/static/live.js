// What is live: a region with data-live="URL" shows the HTML that the server sends (server-sent events).
// Without this script every page shows what stood when it was loaded.
"use strict";

for (const region of document.querySelectorAll("[data-live]")) {
  let source = null;
  const bar = document.createElement("p");
  bar.className = "live";
  const state = document.createElement("span");
  state.setAttribute("role", "status");
  const button = document.createElement("button");
  button.type = "button";
  bar.append(state, button);
  region.before(bar);

  const show = (html) => {
    const active = document.activeElement;
    const focused = region.contains(active) ? [...region.querySelectorAll("a, button, [tabindex]")].indexOf(active) : -1;
    const scrolled = [...region.querySelectorAll(".scroll")].map((element) => [element.scrollLeft, element.scrollTop]);
    region.innerHTML = html;
    [...region.querySelectorAll(".scroll")].forEach((element, index) => {
      if (scrolled[index]) [element.scrollLeft, element.scrollTop] = scrolled[index];
    });
    if (focused >= 0) region.querySelectorAll("a, button, [tabindex]")[focused]?.focus({ preventScroll: true });
  };

  const follow = () => {
    source = new EventSource(region.dataset.live);
    source.onopen = () => { state.textContent = "live"; bar.dataset.state = "live"; };
    source.onerror = () => { state.textContent = "not connected"; bar.dataset.state = "off"; };
    source.onmessage = (message) => show(message.data);
    button.textContent = "Pause";
  };
  const pause = () => {
    source.close();
    source = null;
    state.textContent = "paused";
    bar.dataset.state = "off";
    button.textContent = "Go on";
  };
  button.addEventListener("click", () => (source ? pause() : follow()));
  // An open stream must not keep a page that is left from being loaded again.
  addEventListener("pagehide", () => source?.close());
  follow();
}
