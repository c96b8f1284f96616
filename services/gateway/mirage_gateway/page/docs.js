// Shows the server's OpenAPI description: each operation with its parameters, body, reply and errors.

import { element } from "./elements.js";

const place = document.getElementById("api");

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`status ${response.status}`);
  const api = await response.json();
  place.append(...operations(api), section("Models", Object.entries(api.components.schemas).map(model)));
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
} catch (error) {
  place.append(element("p", { role: "alert" }, `The description could not be read: ${error.message}.`));
}

function operations(api) {
  return Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => {
      const parts = [element("p", {}, `${operation.summary}.`)];
      if (operation.security.length === 0) parts.push(element("p", {}, "Needs no key."));
      if (operation.parameters)
        parts.push(table(["parameter", "in", "type", "meaning"], operation.parameters.map((each) => [each.name, each.in, type(each.schema), each.description])));
      if (operation.requestBody) parts.push(contents("Body", operation.requestBody.content));
      for (const [status, answer] of Object.entries(operation.responses))
        parts.push(status < "300" ? contents(`Reply ${status}`, answer.content ?? {}) : element("p", {}, element("strong", {}, status), ` ${answer.description}`));
      return element("details", { id: operation.operationId }, element("summary", {}, element("code", {}, `${method.toUpperCase()} ${path}`), ` ${operation.summary}`), ...parts);
    }),
  );
}

function contents(name, content) {
  const lines = Object.entries(content).map(([kind, { schema, "x-events": events }]) =>
    element("p", {}, `${name}: ${kind} `, schema ? type(schema) : "", ...Object.entries(events ?? {}).flatMap(([event, each]) => [element("br"), `event ${event}: `, type(each)])),
  );
  return element("div", {}, ...lines);
}

function model([name, schema]) {
  const required = new Set(schema.required);
  const rows = Object.entries(schema.properties ?? {}).map(([field, each]) => [field, type(each), required.has(field) ? "always" : "optional", each.description ?? ""]);
  return element("details", { id: `model-${name}` }, element("summary", {}, element("code", {}, name)), element("p", {}, schema.description ?? ""), table(["field", "type", "", "meaning"], rows));
}

function section(title, parts) {
  return element("section", {}, element("h2", {}, title), ...parts);
}

function table(head, rows) {
  const line = (kind, cells) => element("tr", {}, ...cells.map((cell) => element(kind, {}, cell)));
  return element("table", {}, element("thead", {}, line("th", head)), element("tbody", {}, ...rows.map((row) => line("td", row))));
}

// A schema in words, with links to the models.
function type(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    const link = element("a", { href: `#model-${name}` }, name);
    link.addEventListener("click", () => (document.getElementById(`model-${name}`).open = true));
    return link;
  }
  const several = schema.anyOf ?? schema.allOf;
  if (several) return element("span", {}, ...several.flatMap((each, index) => [index ? " or " : "", type(each)]));
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(", ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return element("span", {}, "list of ", type(schema.items ?? {}));
  if (schema.type === "object" && typeof schema.additionalProperties === "object") return element("span", {}, "object of ", type(schema.additionalProperties));
  const range = [schema.minimum ?? "", schema.maximum ?? ""].join("…");
  return `${schema.type ?? "any"}${range === "…" ? "" : ` ${range}`}${schema.default === undefined ? "" : `, default ${JSON.stringify(schema.default)}`}`;
}
