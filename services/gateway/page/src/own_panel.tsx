// The reader's own image, large, next to what was found: what it seems to be, and what happens to it.

import { useEffect, useState } from "preact/hooks";
import { useRights } from "./access";
import { EMPTY, isStatic, type Route } from "./address";
import { type ImageGuess, json } from "./api";
import { useData } from "./data";
import { toggled } from "./filters";
import { base64, find, groupOf, type OwnImage } from "./own";
import { preview } from "./preview";
import { t } from "./text";
import { Link, Notice } from "./ui";
import { valueName } from "./words";

export function useOwn(key: string): OwnImage | null | undefined {
  return useData<OwnImage | null>(key && `own ${key}`, () => find(key)).value;
}

export function OwnPanel({ route }: { route: Route }) {
  const rights = useRights();
  const image = useOwn(route.own);
  const guess = useData<{ guess: ImageGuess }>(image ? `guess ${image.key}` : "", async (signal) =>
    json("/v1/classify", { body: { image: image && (await base64(image.file)) }, signal }),
  ).value?.guess;
  if (!image) return <aside class="own" aria-label={t("title.own")} />;
  const others = groupOf(image.key).filter((key) => key !== image.key);
  return (
    <aside class="own" aria-label={t("title.own")}>
      <OwnPicture image={image} />
      <p class="file-name">{image.name}</p>
      {guess && <Guess guess={guess} route={route} />}
      <p class="soft small">{t(isStatic ? "own.privacy.site" : "own.privacy")}</p>
      <p class="line">
        {rights.can("read") && (
          <Link class="button" to={{ ...EMPTY, view: "read", own: image.key, collection: route.collection }}>
            {t("read")}
          </Link>
        )}
        <Link to={{ ...EMPTY, collection: route.collection }}>{t("own.remove")}</Link>
      </p>
      {others.length > 0 && (
        <>
          <h2>{t("own.others")}</h2>
          <ul class="strip">
            {others.map((key) => (
              <li key={key}>
                <Other id={key} />
              </li>
            ))}
          </ul>
        </>
      )}
    </aside>
  );
}

function Other({ id }: { id: string }) {
  const image = useOwn(id);
  return (
    <Link to={{ ...EMPTY, own: id }} aria-label={image?.name ?? ""}>
      {image && <OwnPicture image={image} />}
    </Link>
  );
}

// A browser does not show DICOM: its picture is drawn from the file, if its form is a common one.
export function OwnPicture({ image }: { image: OwnImage }) {
  const [source, setSource] = useState<string | null>("");
  useEffect(() => {
    let address = "";
    let gone = false;
    preview(image.file).then(
      (file) => {
        address = URL.createObjectURL(file);
        if (!gone) setSource(address);
      },
      () => gone || setSource(null),
    );
    return () => {
      gone = true;
      URL.revokeObjectURL(address);
    };
  }, [image.key]);
  if (source === null) return <p class="shot soft">{t("own.nopreview")}</p>;
  return (
    <span class="shot">{source && <img src={source} alt={t("title.own")} onError={() => setSource(null)} />}</span>
  );
}

function Guess({ guess, route }: { guess: ImageGuess; route: Route }) {
  if (guess.kind === "unknown") return null;
  const best = (facet: string) => guess.facets?.find((each) => each.facet === facet);
  const found = ["modality", "body_part"].flatMap((facet) => {
    const value = best(facet)?.values?.[0]?.value;
    return value ? [{ facet, value, sure: Boolean(best(facet)?.known || best(facet)?.stated) }] : [];
  });
  const what = found.map(({ value }) => valueName(value)).join(", ");
  const sure = found.length > 0 && found.every((each) => each.sure);
  return (
    <Notice kind={guess.kind === "medical" ? "plain" : "doubt"}>
      <p>
        {t(`own.${guess.kind}`)}{" "}
        {guess.kind !== "not_medical" && what && t(sure ? "own.sure" : "own.perhaps", { what })}
      </p>
      {guess.kind !== "not_medical" &&
        found
          .filter(({ facet, value }) => !route.where[facet]?.includes(value))
          .map(({ facet, value }) => (
            <Link key={facet} class="chip" to={toggled(route, facet, value)}>
              {t("own.only", { value: valueName(value) })}
            </Link>
          ))}
      {guess.kind !== "not_medical" && <p class="soft small">{t("own.correct")}</p>}
    </Notice>
  );
}
