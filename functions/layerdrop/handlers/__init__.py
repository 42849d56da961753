"""The stack's functions: a module each, whose `handler` template.yaml names."""
