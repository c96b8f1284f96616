// Three browser engines behind the few calls that the journeys need.

import { existsSync } from "node:fs";
import puppeteer from "puppeteer-core";
import { Browser, Builder, By, Key, until } from "selenium-webdriver";

const PATIENCE_MS = 30_000;
const CHROMIUM = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

function installed(...paths) {
  const found = paths.find((path) => existsSync(path));
  if (!found) throw new Error(`not installed: ${paths[0]}`);
  return found;
}

/** Chromium by its own protocol, Firefox by WebDriver BiDi. */
async function byPuppeteer(options) {
  const browser = await puppeteer.launch({ headless: true, ...options });
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.setViewport({ width: 1280, height: 900 });
  return {
    goto: (url) => page.goto(url, { waitUntil: "load" }),
    shown: async (selector) => void (await page.waitForSelector(selector, { visible: true })),
    click: async (selector) => {
      await page.waitForSelector(selector, { visible: true });
      await page.$eval(selector, (element) => element.scrollIntoView({ block: "center" }));
      await page.click(selector);
    },
    type: async (selector, text) => {
      await page.waitForSelector(selector, { visible: true });
      await page.$eval(selector, (element) => element.select());
      await page.type(selector, text);
      await page.keyboard.press("Enter");
    },
    press: (key) => page.keyboard.press(key),
    upload: async (selector, path) => (await page.waitForSelector(selector)).uploadFile(path),
    back: () => page.evaluate(() => history.back()),
    evaluate: (expression) => page.evaluate(expression),
    close: () => browser.close(),
  };
}

/** WebKit by its own driver. */
async function bySelenium(driverPath) {
  const driver = await new Builder()
    .forBrowser(Browser.SAFARI)
    .withCapabilities({ browserName: "MiniBrowser", "webkitgtk:browserOptions": {
      binary: installed("/usr/lib/x86_64-linux-gnu/webkit2gtk-4.0/MiniBrowser", "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser"),
      args: ["--automation"],
    } })
    .usingServer(driverPath)
    .build();
  await driver.manage().window().setRect({ width: 1280, height: 900 });
  const found = async (selector) => {
    const element = await driver.wait(until.elementLocated(By.css(selector)), PATIENCE_MS, `no ${selector}`);
    return driver.wait(until.elementIsVisible(element), PATIENCE_MS, `hidden: ${selector}`);
  };
  return {
    goto: (url) => driver.get(url),
    shown: async (selector) => void (await found(selector)),
    click: async (selector) => {
      const element = await found(selector);
      await driver.executeScript("arguments[0].scrollIntoView({ block: 'center' })", element);
      await element.click();
    },
    type: async (selector, text) => {
      const element = await found(selector);
      await element.clear();
      await element.sendKeys(text, Key.ENTER);
    },
    press: (key) => driver.actions().sendKeys(Key[key.toUpperCase()] ?? key).perform(),
    upload: async (selector, path) => (await driver.wait(until.elementLocated(By.css(selector)), PATIENCE_MS)).sendKeys(path),
    back: () => driver.navigate().back(),
    evaluate: (expression) => driver.executeScript(`return (${expression})`),
    close: () => driver.quit(),
  };
}

export const ENGINES = {
  chromium: () => byPuppeteer({ executablePath: installed("/usr/bin/chromium", "/usr/bin/google-chrome"), args: CHROMIUM }),
  firefox: () => byPuppeteer({ browser: "firefox", executablePath: installed("/usr/bin/firefox-esr", "/usr/bin/firefox") }),
  webkit: () => bySelenium(process.env.WEBKIT_DRIVER ?? "http://127.0.0.1:4445"),
};
