/* Fills in what a known token decides, as soon as it is chosen. Without this script the server
   does the same when the form is saved. */
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const chooser = document.getElementById("id_known_token");
  if (!chooser) {
    return;
  }
  const NAMES = [
    "network",
    "asset",
    "asset_symbol",
    "asset_name",
    "asset_version",
    "asset_decimals",
  ];
  const inputs = NAMES.map((name) => [name, document.getElementById(`id_${name}`)]).filter(
    ([, input]) => input
  );

  chooser.addEventListener("change", () => {
    const option = chooser.selectedOptions[0];
    if (!option || !option.value) {
      return;
    }
    for (const [name, input] of inputs) {
      input.value = option.getAttribute(`data-${name.replaceAll("_", "-")}`);
    }
  });

  // Whoever edits a field by hand describes another token.
  for (const [, input] of inputs) {
    input.addEventListener("input", () => {
      chooser.value = "";
    });
  }
});
