// What the reader may do here, as the server says. Until it has said, everything is offered.

import { json, type Model } from "./api";
import { useData } from "./data";

interface Access {
  role: string;
  may: string[];
}

export interface Rights {
  can(action: string): boolean;
  /** True for a reader without a key of a server that has keys. */
  visitor: boolean;
}

export function useRights(): Rights {
  const { value } = useData<Access>("access", (signal) => json("/v1/access", { signal }));
  return { can: (action) => !value || value.may.includes(action), visitor: value?.role === "public" };
}

export interface Atlas {
  name: string;
  active?: boolean;
  records: number;
}

/** Returns the models that run; none until `when`, so that what is waited for comes first. */
export const useModels = (when: boolean): Model[] =>
  useData<{ models: Model[] }>(when ? "models" : "", (signal) => json("/v1/models", { signal })).value?.models ?? [];
