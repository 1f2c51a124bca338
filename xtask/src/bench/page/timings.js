// When a page that is opened can be read, and when it can be worked with: ms since the navigation began.
(() => {
  const seen = { readable: null, ready: null };
  window.seenByBench = seen;
  const look = () => {
    // The next frame shows the document as it is now.
    const isThere = (document.querySelector("#verdict")?.textContent ?? "").trim() !== "";
    if (isThere) requestAnimationFrame(() => { seen.readable = performance.now(); });
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  const watch = new MutationObserver(() => {
    if (!document.documentElement.classList.contains("script")) return;
    watch.disconnect();
    // A click has to wait for what the page does now, and no longer.
    setTimeout(() => { seen.ready = performance.now(); });
  });
  watch.observe(document, { attributes: true, attributeFilter: ["class"], subtree: true });
})();
