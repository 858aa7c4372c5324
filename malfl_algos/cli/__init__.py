"""The `malfl` command."""
