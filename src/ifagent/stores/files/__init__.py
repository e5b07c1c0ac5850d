"""A store of files: a YAML or JSON file, or a directory of them; states are asked for at the agent's socket."""
