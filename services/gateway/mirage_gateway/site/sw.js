// The service worker of a site: what was seen once is there without a network. SITE is set by the export.

const CACHE = `mirage ${registration.scope}`;
const here = (path) => new URL(path, registration.scope).href;

addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      const isThere = await Promise.all(SITE.files.map((path) => path.includes("-") && cache.match(here(path))));
      await cache.addAll([...SITE.files.filter((_, at) => !isThere[at]), "site.json"].map(here));
    })(),
  );
});

// The files of an earlier export that this one does not name.
addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      await clients.claim();
      const cache = await caches.open(CACHE);
      const head = await (await cache.match(here("site.json")))?.json();
      if (!head) return;
      const named = Object.values(head.files).flatMap(({ parts }) => parts.map(([path]) => here(path)));
      const kept = new Set([...named, ...SITE.files.map(here)]);
      const old = (await cache.keys()).filter(({ url }) => /\/(data|model|page)\/[^/]*$/.test(url) && !kept.has(url));
      await Promise.all(old.map((request) => cache.delete(request)));
    })(),
  );
});

// A browser whose storage is blocked keeps nothing.
const opened = () => caches.open(CACHE).catch(() => null);

async function fresh(request, name) {
  const cache = await opened();
  try {
    const response = await fetch(request);
    if (response.ok) await cache?.put(here(name), response.clone()).catch(() => {});
    return response;
  } catch {
    return (await cache?.match(here(name))) ?? Response.error();
  }
}

async function kept(request) {
  const cache = await opened();
  const found = await cache?.match(request.url, { ignoreSearch: true });
  if (found && request.destination === "worker")
    // A worker of an address of its own has the policy that comes with its file.
    return new Response(found.body, {
      headers: { "content-type": "text/javascript", "content-security-policy": SITE.policy },
    });
  if (found) return found;
  const response = await fetch(request);
  const keeps = /\/(thumbnails|images|regions|page)\//.test(request.url);
  if (response.ok && response.status === 200 && keeps) await cache?.put(request.url, response.clone()).catch(() => {});
  return response;
}

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(registration.scope)) return;
  if (request.mode === "navigate" && !/\.\w+$/.test(new URL(request.url).pathname.replace(/index\.html$/, "")))
    event.respondWith(fresh(request, "./"));
  else if (request.url === here("site.json")) event.respondWith(fresh(request, "site.json"));
  else event.respondWith(kept(request));
});
