// The server's OpenAPI description: each operation with its parameters, body, reply and errors.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { here } from "./address";
import { json } from "./api";
import { useData } from "./data";
import { Failure, Waiting } from "./ui";

interface Schema {
  $ref?: string;
  type?: string;
  description?: string;
  anyOf?: Schema[];
  allOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  items?: Schema;
  additionalProperties?: Schema | boolean;
  properties?: Record<string, Schema>;
  required?: string[];
  minimum?: number;
  maximum?: number;
  default?: unknown;
}

type Content = Record<string, { schema?: Schema; "x-events"?: Record<string, Schema> }>;

interface Operation {
  summary: string;
  operationId: string;
  security: unknown[];
  parameters?: { name: string; in: string; schema: Schema; description: string }[];
  requestBody?: { content: Content };
  responses: Record<string, { description: string; content?: Content }>;
}

interface Api {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

// In English only, as the description is.
export function Docs() {
  const { value, error, again } = useData<Api>("openapi", (signal) => json("/openapi.json", { signal }));
  useEffect(() => {
    if (value && location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }, [value]);
  return (
    <div class="prose" lang="en">
      <h1 tabIndex={-1}>HTTP API</h1>
      <p>
        Described by <a href={here("openapi.json")}>openapi.json</a>.
      </p>
      {error && <Failure problem={error} again={again} />}
      {!value && !error && <Waiting />}
      {value &&
        Object.entries(value.paths).flatMap(([path, methods]) =>
          Object.entries(methods).map(([method, operation]) => (
            <One key={operation.operationId} path={path} method={method} operation={operation} />
          )),
        )}
      {value && <h2>Models</h2>}
      {value &&
        Object.entries(value.components.schemas).map(([name, schema]) => (
          <ModelOf key={name} name={name} schema={schema} />
        ))}
    </div>
  );
}

function One({ path, method, operation }: { path: string; method: string; operation: Operation }) {
  const { parameters, requestBody, responses } = operation;
  return (
    <details id={operation.operationId}>
      <summary>
        <code>{`${method.toUpperCase()} ${path}`}</code> {operation.summary}
      </summary>
      <p>{operation.summary}.</p>
      {operation.security.length === 0 && <p>Needs no key.</p>}
      {parameters && (
        <Table
          head={["parameter", "in", "type", "meaning"]}
          rows={parameters.map((each) => [
            each.name,
            each.in,
            <Type key="type" schema={each.schema} />,
            each.description,
          ])}
        />
      )}
      {requestBody && <Contents name="Body" content={requestBody.content} />}
      {Object.entries(responses).map(([status, answer]) =>
        status < "300" ? (
          <Contents key={status} name={`Reply ${status}`} content={answer.content ?? {}} />
        ) : (
          <p key={status}>
            <strong>{status}</strong> {answer.description}
          </p>
        ),
      )}
    </details>
  );
}

function Contents({ name, content }: { name: string; content: Content }) {
  return (
    <>
      {Object.entries(content).map(([kind, { schema, "x-events": events }]) => (
        <p key={kind}>
          {name}: {kind} {schema && <Type schema={schema} />}
          {Object.entries(events ?? {}).map(([event, each]) => (
            <span key={event}>
              <br />
              event {event}: <Type schema={each} />
            </span>
          ))}
        </p>
      ))}
    </>
  );
}

function ModelOf({ name, schema }: { name: string; schema: Schema }) {
  const required = new Set(schema.required);
  const rows = Object.entries(schema.properties ?? {}).map(([field, each]) => [
    field,
    <Type key="type" schema={each} />,
    required.has(field) ? "always" : "optional",
    each.description ?? "",
  ]);
  return (
    <details id={`model-${name}`}>
      <summary>
        <code>{name}</code>
      </summary>
      <p>{schema.description}</p>
      <Table head={["field", "type", "", "meaning"]} rows={rows} />
    </details>
  );
}

function Table({ head, rows }: { head: string[]; rows: ComponentChildren[][] }) {
  return (
    <table>
      <thead>
        <tr>
          {head.map((each) => (
            <th key={each}>{each}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row, index) => (
          <tr key={index}>
            {row.map((cell, column) => (
              <td key={column}>{cell}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A schema in words, with links to the models. */
function Type({ schema }: { schema: Schema }) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop() ?? "";
    const open = () => document.getElementById(`model-${name}`)?.setAttribute("open", "");
    return (
      <a href={`#model-${name}`} onClick={open}>
        {name}
      </a>
    );
  }
  const several = schema.anyOf ?? schema.allOf;
  if (several)
    return (
      <>
        {several.map((each, index) => (
          <span key={index}>
            {index ? " or " : ""}
            <Type schema={each} />
          </span>
        ))}
      </>
    );
  if (schema.enum) return <>{schema.enum.map((each) => JSON.stringify(each)).join(", ")}</>;
  if (schema.const !== undefined) return <>{JSON.stringify(schema.const)}</>;
  if (schema.type === "array") return <>list of {schema.items && <Type schema={schema.items} />}</>;
  if (schema.type === "object" && typeof schema.additionalProperties === "object")
    return (
      <>
        object of <Type schema={schema.additionalProperties} />
      </>
    );
  const range = [schema.minimum ?? "", schema.maximum ?? ""].join("…");
  const bounds = range === "…" ? "" : ` ${range}`;
  const otherwise = schema.default === undefined ? "" : `, default ${JSON.stringify(schema.default)}`;
  return <>{`${schema.type ?? "any"}${bounds}${otherwise}`}</>;
}
