// The scripts of the pages beyond htmx: times in the reader's time zone, copying, rows of forms, and
// a message when the server can't be reached. Every page works without them.
"use strict";
(() => {
  const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      time.title = time.dateTime;
      time.textContent = zone.format(at);
      time.dataset.local = "";
    }
  }

  function toast(text) {
    const place = document.getElementById("toast");
    if (!place) return;
    place.textContent = text;
    place.hidden = !text;
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    if (!source) return;
    const label = button.dataset.label || (button.dataset.label = button.textContent);
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent);
      button.textContent = "Copied";
    } catch {
      // Without a secure origin there is no clipboard. Select the text, so that a key can copy it.
      if (source.select) source.select();
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  }

  function addRow(button) {
    const template = document.getElementById(button.dataset.add);
    const rows = document.getElementById(button.dataset.rows);
    if (!template || !rows) return false;
    rows.append(template.content.cloneNode(true));
    rows.lastElementChild.querySelector("input").focus();
    return true;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copy) copy(button);
    if (button.dataset.add && addRow(button)) event.preventDefault();
    if (button.dataset.removes !== undefined) {
      const rows = button.closest(".rows");
      button.closest(".row").remove();
      rows.parentElement.querySelector("button[data-add]").focus();
      event.preventDefault();
    }
  });

  // A form is sent only once, and its pressed button shows that it is busy.
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!button || event.defaultPrevented || event.target.method !== "post") return;
    if (button.getAttribute("aria-busy") === "true") { event.preventDefault(); return; }
    button.setAttribute("aria-busy", "true");
    if (button.dataset.busy) {
      button.dataset.idle = button.textContent;
      button.textContent = button.dataset.busy;
    }
  });
  // This event also occurs when the browser restores a page from its cache.
  window.addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll('button[aria-busy="true"]')) idle(button);
  });
  function idle(button) {
    button.removeAttribute("aria-busy");
    if (button.dataset.idle) button.textContent = button.dataset.idle;
  }

  function everything() {
    const all = document.getElementById("everything");
    if (!all) return;
    for (const one of document.querySelectorAll("[data-kind]")) one.disabled = all.checked;
  }
  document.addEventListener("change", (event) => { if (event.target.id === "everything") everything(); });

  // A hidden page does not poll.
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden && event.target.matches("[data-polls]")) event.preventDefault();
  });
  document.addEventListener("htmx:response:error", (event) => {
    const away = event.detail.ctx.response.status >= 500;
    document.body.classList.toggle("offline", away);
    toast(away ? "The service can't answer for now. This page keeps trying."
      : "That was not done. Reload the page and try again.");
  });
  document.addEventListener("htmx:error", () => {
    document.body.classList.add("offline");
    toast("The server can't be reached. This page keeps trying.");
  });
  document.addEventListener("htmx:after:swap", () => {
    document.body.classList.remove("offline");
    toast("");
    localTimes(document);
  });
  document.addEventListener("htmx:finally:request", (event) => {
    for (const button of event.target.querySelectorAll?.('button[aria-busy="true"]') ?? []) idle(button);
  });

  document.addEventListener("DOMContentLoaded", () => {
    localTimes(document);
    everything();
    document.querySelector('[aria-invalid="true"]')?.focus();
  });
})();
