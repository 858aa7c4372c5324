"""The `malfl` command.

A command is one function under the decorator `malfl_algos.cli.table.command`, in `experiments`,
`traces` or `plugins`. Nothing here is public: plugins and notebooks use the faces that
`malfl_algos` names.
"""
