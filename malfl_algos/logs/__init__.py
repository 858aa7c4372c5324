"""Learning traces from tables of other people's logs: `LearningTrace.from_table`, `malfl import`.

Read `reading` first: it calls all others in order. `columns` reads the columns of any frame as
`column` has them, `table` says what each is for, `labels` numbers states and actions, `agents` and
`steps` turn rows into joint steps as `rows` has them, `stages`, `parts` and `change_points` cut
time into stages, and `building` makes the trace. `files` opens files, with `csv_files` and
`minari_files`; `exported` restores what `malfl export` wrote; `arrays` is the way of
`LearningTrace.from_transitions`, `memory` of games whose states are the actions before. Nothing in
this package is public.
"""
