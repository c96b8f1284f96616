// What this browser remembers for the page. If site data is blocked or full, things are remembered until the page is left.

interface Keeper {
  get(name: string): string | null;
  set(name: string, value: string): void;
  remove(name: string): void;
}

function keeper(storage: () => Storage): Keeper {
  const memory = new Map<string, string>();
  return {
    get(name) {
      try {
        return memory.get(name) ?? storage().getItem(name);
      } catch {
        return null;
      }
    },
    set(name, value) {
      try {
        storage().setItem(name, value);
        memory.delete(name);
      } catch {
        memory.set(name, value);
      }
    },
    remove(name) {
      memory.delete(name);
      try {
        storage().removeItem(name);
      } catch {
        // nothing was stored
      }
    },
  };
}

export const tab = keeper(() => sessionStorage);
export const browser = keeper(() => localStorage);

const KEY = "mirage-key";
/** The API key that the reader gave. */
export const key = {
  get: (): string => tab.get(KEY) ?? "",
  set: (value: string): void => tab.set(KEY, value),
};

/** Returns the JSON list of a name, without the entries that `fits` refuses. */
export function listOf<T>(kept: Keeper, name: string, fits: (each: unknown) => each is T): T[] {
  try {
    const found: unknown = JSON.parse(kept.get(name) ?? "[]");
    return Array.isArray(found) ? found.filter(fits) : [];
  } catch {
    return [];
  }
}
