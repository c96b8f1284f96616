"""The store of jobs: one record each in Redis, changed by Lua scripts alone."""
