// The main journeys of the page, for every engine. `step` names what is done, so that a failure says where.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

/** Waits until an expression of the page is true. */
export async function holds(engine, expression, within = 30_000) {
  const end = Date.now() + within;
  while (!(await engine.evaluate(expression))) {
    if (Date.now() > end) throw new Error(`not so: ${expression}`);
    await pause(100);
  }
}

export const CARDS = '.grid .card:not(.skeleton)';
export const count = (selector) => `document.querySelectorAll(${JSON.stringify(selector)}).length`;
export const drawn = (selector) =>
  `[...document.querySelectorAll(${JSON.stringify(selector)})].slice(0, 1).some((image) => image.complete && image.naturalWidth > 0)`;

export const JOURNEYS = {
  async "home shows images of the atlas"(engine, url) {
    await engine.goto(url);
    await engine.shown("h1");
    await holds(engine, `${count("main ul li a img")} >= 9`);
    await holds(engine, drawn("main ul li a img"));
    assert.equal(await engine.evaluate(count("h1")), 1);
  },

  async "a search, an image of it, and back to the same place"(engine, url) {
    await engine.goto(url);
    await engine.type("#q", "axial T1 brain MRI");
    await holds(engine, `${count(CARDS)} >= 12`);
    await holds(engine, drawn(`${CARDS} img`));
    await holds(engine, `${count(`${CARDS} mark`)} > 0`);
    const id = await engine.evaluate(`document.querySelectorAll(${JSON.stringify(CARDS)})[8].dataset.id`);
    await engine.click(`${CARDS}[data-id="${id}"] a.shot`);
    await holds(engine, `location.pathname.endsWith("/i/" + ${JSON.stringify(id)})`);
    await holds(engine, drawn(".stage img"));
    await engine.back();
    await holds(engine, `${count(CARDS)} >= 12 && location.search.includes("q=")`);
    await holds(engine, `document.activeElement?.closest(".card")?.dataset.id === ${JSON.stringify(id)}`);
  },

  async "what the atlas does not have is said"(engine, url) {
    await engine.goto(`${url}/?q=how+to+bake+bread`);
    await holds(engine, `document.querySelector("main").innerText.includes("how to bake bread")`);
    assert.equal(await engine.evaluate(`[...document.querySelectorAll(${JSON.stringify(CARDS)})].filter((card) => card.checkVisibility?.() ?? card.offsetParent).length`), 0);
  },

  async "two questions are compared"(engine, url) {
    await engine.goto(`${url}/compare?a=axial+T1+brain&b=sagittal+T1+brain`);
    await holds(engine, `${count(".half .stage img")} === 2`);
    await holds(engine, drawn(".half .stage img"));
    await holds(engine, `${count("main table tr")} > 1`);
  },

  async "a query is changed by arithmetic"(engine, url) {
    await engine.goto(`${url}/compare?q=axial+T1+brain&minus=axial&plus=sagittal`);
    await holds(engine, `${count(".half")} === 2 && ${count(".effect")} === 1`);
  },

  async "an own image is searched with and kept in this browser"(engine, url, { image }) {
    await engine.goto(url);
    await engine.shown("#q");
    await engine.upload("#own", image);
    await holds(engine, `location.search.includes("own=")`);
    await holds(engine, `${count(CARDS)} + ${count(".alike")} > 0`);
    await engine.goto(await engine.evaluate("location.href"));
    await holds(engine, `${count(CARDS)} + ${count(".alike")} > 0`);
  },

  async "the answer is hidden by a key"(engine, url, { id }) {
    await engine.goto(`${url}/i/${id}`);
    await holds(engine, drawn(".stage img"));
    const before = await engine.evaluate(`document.querySelector("main").innerText.length`);
    await engine.press("h");
    await holds(engine, `document.querySelector("main").innerText.length < ${before}`);
  },

  async "the other language is one action away"(engine, url) {
    await engine.goto(url);
    await engine.shown("footer select, header select");
    await engine.evaluate(`(() => {
      const menu = [...document.querySelectorAll("select")].find((each) => [...each.options].some((option) => option.value === "es"));
      menu.value = "es";
      menu.dispatchEvent(new Event("change", { bubbles: true }));
    })()`);
    await holds(engine, `document.documentElement.lang === "es"`);
  },
};
