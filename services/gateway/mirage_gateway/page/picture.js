// The image of the query: chosen, dropped or pasted; read in the browser and sent with the query only.

import { byId, element } from "./elements.js";

const BYTES_MAX = 20 * 2 ** 20;
let base64 = null;
let insisting = false;

export const value = () => base64;

// Whether the reader wants to search with what seems to be no medical image.
export const insists = () => insisting;
export const insist = () => (insisting = true);

export function clear() {
  base64 = null;
  insisting = false;
  byId("guess").replaceChildren();
  byId("guess").hidden = true;
  byId("picture").value = "";
  byId("chosen").replaceChildren();
  byId("chosen").hidden = true;
}

// Calls `changed` when an image is there or gone, `refused` with a problem if a file cannot be one.
export function listen(changed, refused) {
  const refuse = (problem) => {
    byId("picture").value = "";
    refused(problem);
  };
  const take = async (file) => {
    if (!file) return;
    const name = file.name || "The pasted image";
    if (!file.size) return refuse({ code: "IMAGE_EMPTY", title: "Empty image", detail: `${name} is empty: it has no bytes.`, status: 422 });
    if (file.size > BYTES_MAX)
      return refuse({ code: "IMAGE_TOO_LARGE", title: "Image too large", detail: "An image file may have at most 20 MB.", status: 413 });
    try {
      base64 = await read(file);
    } catch {
      return refuse({ code: "IMAGE_UNREADABLE", title: "Image unreadable", detail: `${name} cannot be read. Is it a folder, or was it moved?`, status: 422 });
    }
    insisting = false;
    draw(file, changed);
    changed();
  };
  byId("picture").addEventListener("change", (event) => take(event.target.files[0]));
  const drop = document.body;
  drop.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    drop.classList.add("dropping");
  });
  drop.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("dropping");
  });
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("dropping");
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files][0];
    if (file) take(file);
  });
}

function draw(file, changed) {
  const preview = element("img", { alt: "", width: 44, height: 44 });
  const address = URL.createObjectURL(file);
  preview.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
  preview.addEventListener("error", () => preview.remove(), { once: true }); // DICOM: browsers do not show it
  preview.src = address;
  const remove = () => {
    clear();
    changed();
    byId("text").focus();
  };
  byId("chosen").replaceChildren(
    preview,
    element("span", { class: "file" }, file.name || "pasted image"),
    element("button", { type: "button", class: "link", onclick: remove }, "Remove"),
    element("span", { class: "aside" }, "A link to this search does not hold the image."),
  );
  byId("chosen").hidden = false;
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}
