"""Where jobs are kept: a record each in Redis, changed by Lua scripts alone."""
