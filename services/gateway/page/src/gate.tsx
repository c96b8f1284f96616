// A failure for want of a key becomes the form that asks for one.

import type { ComponentChildren } from "preact";
import type { Problem } from "./api";
import { KeyForm } from "./shell";
import { Failure } from "./ui";

interface GateProps {
  problem: Problem;
  again: () => void;
  children?: ComponentChildren;
}

export function Gate({ problem, again, children }: GateProps) {
  if (problem.code === "API_KEY_MISSING" || problem.code === "API_KEY_INVALID")
    return <KeyForm asked wrong={problem.code === "API_KEY_INVALID"} />;
  return <>{children ?? <Failure problem={problem} again={again} />}</>;
}
