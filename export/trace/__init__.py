"""Networks of users: a module is traced, and becomes a step by rules for the operators that mix time."""
