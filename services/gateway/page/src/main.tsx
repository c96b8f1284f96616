// The page: the view that the address names, in its frame.

import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { About } from "./about";
import { asks, EMPTY, type Route } from "./address";
import "./app.css";
import { Compare } from "./compare";
import { Docs } from "./docs";
import { Generated } from "./generated";
import { Home } from "./home";
import { ImageView } from "./image";
import { Quality } from "./quality";
import { Rate } from "./rate";
import { Read } from "./read";
import { Results, titleOf } from "./results";
import { useRoute } from "./router";
import { Bar, Foot, Refused, take } from "./shell";
import { t } from "./text";
import { isTyping, Link } from "./ui";

function Lost() {
  return (
    <div class="failure">
      <h1 tabIndex={-1}>{t("lost")}</h1>
      <p>{t("lost.how")}</p>
      <p>
        <Link to={EMPTY}>{t("home.back")}</Link>
      </p>
    </div>
  );
}

function View({ route }: { route: Route }) {
  switch (route.view) {
    case "search":
      return asks(route) ? <Results route={route} /> : <Home route={route} />;
    case "image":
      return <ImageView route={route} />;
    case "compare":
      return <Compare route={route} />;
    case "read":
      return <Read route={route} />;
    case "generated":
      return <Generated />;
    case "quality":
      return <Quality route={route} />;
    case "rate":
      return <Rate token={route.id} />;
    case "about":
      return <About />;
    case "docs":
      return <Docs />;
    case "lost":
      return <Lost />;
  }
}

const kindOf = (route: Route): string => (route.view === "search" && !asks(route) ? "home" : route.view);

function nameOf(route: Route): string {
  if (route.view === "search") return asks(route) ? titleOf(route) : "";
  if (route.view === "image") return "";
  return t(`view.${route.view}`);
}

function App() {
  const { route, version } = useRoute();
  const kind = kindOf(route);
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    document.documentElement.dataset.view = kind;
    if (route.view !== "image") document.title = [nameOf(route), "MIRAGE"].filter(Boolean).join(" · ");
  }, [route, version]);
  // Another view begins at its heading, for those who do not see it change.
  useEffect(() => {
    if (first.current) first.current = false;
    else if (!document.activeElement || document.activeElement === document.body)
      main.current?.focus({ preventScroll: true });
  }, [kind]);
  const skip = (event: Event) => {
    event.preventDefault();
    main.current?.focus();
  };
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        {t("skip")}
      </a>
      <Bar route={route} key={`bar ${version}`} />
      <main id="main" class="wide" tabIndex={-1} ref={main} key={`main ${version}`}>
        <Refused />
        <View route={route} />
      </main>
      <Foot route={route} key={`foot ${version}`} />
    </>
  );
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || isTyping(event)) return;
  event.preventDefault();
  document.querySelector<HTMLInputElement>("form[role=search] input:not([type=file])")?.select();
});
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  document.documentElement.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.documentElement.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.documentElement.classList.remove("dropping");
  take([...(event.dataTransfer?.files ?? [])]);
});
document.addEventListener("paste", (event) => {
  take([...(event.clipboardData?.files ?? [])]);
});

const place = document.getElementById("app");
if (place) {
  // The bar that index.html shows before this script is there.
  place.replaceChildren();
  render(<App />, place);
}
