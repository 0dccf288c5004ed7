// Times in the browser's own zone, and the parts of a page that are kept up to date.
(() => {
  const two = (number) => String(number).padStart(2, "0");
  const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const minute = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;

  function localise(root) {
    root.querySelectorAll("time[datetime]").forEach((time) => {
      const at = new Date(time.dateTime);
      time.title = `${time.dateTime.slice(0, 19).replace("T", " ")} UTC`;
      time.textContent = `${day(at)} ${minute(at)}`;
    });
    root.querySelectorAll("text[data-hour]").forEach((label) => {
      label.textContent = minute(new Date(label.dataset.hour));
    });
  }

  function tellOffline(since) {
    const told = document.querySelector('[data-ours="offline"]');
    told.textContent = told.dataset.text.replace("{since}", minute(since));
    told.classList.toggle("d-none", false);
  }

  function isInUse(part) {
    const selection = window.getSelection();
    return part.contains(document.activeElement) || (!selection.isCollapsed && part.contains(selection.anchorNode));
  }

  // The page is fetched again as it is, and its live parts are put in the places of the old ones.
  async function refresh(loadedAt) {
    let response;
    try {
      response = await fetch(window.location.href, { headers: { accept: "text/html" } });
    } catch {
      tellOffline(loadedAt);
      return loadedAt;
    }
    if (response.redirected) {
      window.location.reload(); // to the login page
      return loadedAt;
    }
    if (!response.ok && response.status !== 503) return loadedAt;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    document.querySelectorAll("[data-live]").forEach((old) => {
      const fresh = page.querySelector(`[data-live="${old.dataset.live}"]`);
      if (fresh === null || isInUse(old)) return;
      localise(fresh);
      old.replaceWith(document.adoptNode(fresh));
    });
    document.querySelector('[data-ours="offline"]').classList.toggle("d-none", true);
    return new Date();
  }

  function keepUpToDate() {
    let loadedAt = new Date();
    async function turn() {
      const began = performance.now();
      if (!document.hidden) loadedAt = await refresh(loadedAt);
      const wanted = document.querySelector("[data-live-seconds]");
      const seconds = wanted === null ? 10 : Number(wanted.dataset.liveSeconds);
      setTimeout(turn, Math.max(1000 * seconds, 5 * (performance.now() - began))); // a slow server is asked less
    }
    if (document.querySelector("[data-live]") !== null) setTimeout(turn, 2000);
  }

  document.querySelectorAll("[data-submits]").forEach((choice) => {
    choice.addEventListener("change", () => choice.form.requestSubmit());
  });
  localise(document);
  keepUpToDate();
})();
