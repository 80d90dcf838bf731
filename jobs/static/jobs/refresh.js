// Replace the page's #live part with a new one every data-refresh-seconds, until a new one says no
// more. A hidden tab asks for nothing.
"use strict";

(() => {
  const live = () => document.getElementById("live");
  let timer = 0;

  function wait() {
    clearTimeout(timer);
    const seconds = Number(live().dataset.refreshSeconds);
    if (seconds > 0 && !document.hidden) {
      timer = setTimeout(refresh, seconds * 1000);
    }
  }

  // A button that is replaced while it is pressed would not be clicked, and a selection be lost.
  function isInUse() {
    const selection = document.getSelection();
    return live().querySelector(":active") !== null ||
      (!selection.isCollapsed && live().contains(selection.anchorNode));
  }

  async function refresh() {
    try {
      const response = await fetch(location.href, {credentials: "same-origin"});
      // Where the session has ended, the answer is the login's page.
      if (response.ok && !response.redirected && !isInUse()) {
        replace(new DOMParser().parseFromString(await response.text(), "text/html"));
      }
    } catch {
      // The server is away for a moment.
    }
    wait();
  }

  function replace(page) {
    const next = page.getElementById("live");
    if (next === null) {
      return;
    }
    for (const details of live().querySelectorAll("details[open][id]")) {
      next.querySelector(`#${CSS.escape(details.id)}`)?.setAttribute("open", "");
    }
    live().replaceWith(document.adoptNode(next));
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
    } else if (Number(live().dataset.refreshSeconds) > 0) {
      clearTimeout(timer);
      refresh();
    }
  });
  wait();
})();
