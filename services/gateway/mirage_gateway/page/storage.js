// What this browser remembers for the page. If it must not store anything (site data is blocked) or has no room, things are
// remembered until the page is left.

export const tab = keeper(() => sessionStorage);
export const browser = keeper(() => localStorage);

function keeper(storage) {
  const memory = new Map();
  return {
    get(name) {
      if (memory.has(name)) return memory.get(name);
      try {
        return storage().getItem(name);
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
    // The JSON value of a name; `otherwise` if there is none.
    json(name, otherwise) {
      try {
        return JSON.parse(this.get(name)) ?? otherwise;
      } catch {
        return otherwise;
      }
    },
  };
}
