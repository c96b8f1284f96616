// Shows an image of the gateway. With an API key it is fetched with the key and shown from memory.

import { here, key, request } from "./api.js";

export function show(image, url) {
  image.addEventListener("error", () => image.closest(".frame")?.classList.add("broken"), { once: true });
  if (!key.get()) {
    image.src = here(url);
    return;
  }
  request(url)
    .then((response) => response.blob())
    .then((blob) => {
      const address = URL.createObjectURL(blob);
      image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
      image.src = address;
    })
    .catch(() => image.closest(".frame")?.classList.add("broken"));
}

// Saves a file of the gateway. A plain link does it, but cannot carry a key.
export async function save(event, url, name) {
  if (!key.get()) return;
  event.preventDefault();
  const response = await request(url).catch(() => null);
  if (!response) return;
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}
