// The keys of the image view, on a sheet that "?" opens.

import { useEffect, useRef } from "preact/hooks";
import { type Key, t } from "./text";
import { isTyping } from "./ui";

const KEYS: [string, Key][] = [
  ["← →", "keys.turn"],
  ["H", "keys.hide"],
  ["O", "keys.outlines"],
  ["Q", "keys.quiz"],
  ["+ − 0", "keys.zoom"],
  ["Shift + ← → ↑ ↓", "keys.pan"],
  ["B C", "keys.light"],
  ["I", "keys.invert"],
  ["F", "keys.full"],
  ["/", "keys.search"],
  ["Esc", "keys.back"],
];

export function Keys() {
  const sheet = useRef<HTMLDialogElement>(null);
  const open = () => sheet.current?.showModal();
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.key === "?" && !isTyping(event)) open();
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
  const stop = (event: KeyboardEvent) => event.stopPropagation();
  return (
    <>
      <button type="button" class="link keys" onClick={open}>
        {t("keys")}
      </button>
      <dialog ref={sheet} aria-labelledby="keys" onKeyDown={stop}>
        <h2 id="keys">{t("keys.title")}</h2>
        <dl>
          {KEYS.flatMap(([keys, text]) => [
            <dt key={keys}>
              <kbd>{keys}</kbd>
            </dt>,
            <dd key={text}>{t(text)}</dd>,
          ])}
        </dl>
        <p class="soft">{t("keys.pointer")}</p>
        <form method="dialog">
          <button type="submit" class="button">
            {t("close")}
          </button>
        </form>
      </dialog>
    </>
  );
}
