/* Keeps the preview on a price rule's page in step with the form. Without this script the
   "Preview" button opens the same preview on a page of its own. */
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const section = document.querySelector("section.x402-preview[data-preview-url]");
  const form = section && section.closest("form");
  if (!form) {
    return;
  }
  const panel = section.querySelector(".x402-preview-panel");
  const status = section.querySelector("[role=status]");
  const failed = section.querySelector(".x402-preview-failed");
  const WAIT_MS = 400;
  let timer = null;
  let latest = 0;
  let shown = null;

  function currentData() {
    const data = new FormData(form);
    // The two-box widget marks its chosen pages as selected only when the form is sent.
    const chosen = form.querySelector("#id_url_names_to");
    if (chosen) {
      data.delete("url_names");
      for (const option of chosen.options) {
        data.append("url_names", option.value);
      }
    }
    return data;
  }

  async function refresh() {
    const data = currentData();
    const state = new URLSearchParams(data).toString();
    if (state === shown) {
      return;
    }
    const turn = ++latest;
    panel.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(section.dataset.previewUrl, {
        method: "POST",
        body: data,
        credentials: "same-origin",
        headers: { "X-Preview-Fragment": "1" },
      });
      if (!response.ok || response.redirected) {
        throw new Error(`answered ${response.status}`);
      }
      const html = await response.text();
      if (turn === latest) {
        panel.innerHTML = html; // rendered and escaped by our own server
        shown = state;
        failed.hidden = true;
        // Read out the outcome alone, not all of the JSON.
        const outcome = panel.querySelectorAll(".x402-ways li, .errorlist li");
        status.textContent = Array.from(outcome, (item) => item.textContent).join("; ");
      }
    } catch (error) {
      if (turn === latest) {
        failed.hidden = false;
      }
    } finally {
      if (turn === latest) {
        panel.setAttribute("aria-busy", "false");
      }
    }
  }

  function later() {
    window.clearTimeout(timer);
    timer = window.setTimeout(refresh, WAIT_MS);
  }

  form.addEventListener("input", later);
  form.addEventListener("change", later);
  // Moving pages between the two boxes fires neither of the two on the boxes themselves.
  form.addEventListener("click", later);
  form.addEventListener("dblclick", later);
});
