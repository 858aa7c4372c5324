"""Files: arrays, traces, tables, and how they are written."""
