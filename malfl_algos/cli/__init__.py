"""The `malfl` command.

Read `table` first, then `main`. A command is one function under the decorator
`malfl_algos.cli.table.command`, in `experiments`, `traces` or `plugins`. Nothing here is public:
plugins and notebooks use the public modules that `malfl_algos` names.
"""
