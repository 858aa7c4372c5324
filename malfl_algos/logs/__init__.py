"""Learning traces from tables of other people's logs: `LearningTrace.from_table`.

Read `reading` first: it calls all others in order. `columns` reads a column of any frame, `table`
says what each column is for, `labels` numbers states and actions, `steps` sorts the rows into joint
steps, `stages`, `parts` and `change_points` cut time into stages, and `building` makes the trace.
Nothing in this package is public; users call `LearningTrace.from_table`.
"""
