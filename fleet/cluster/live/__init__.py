"""The present load of the processes: `cluster status --watch`.

`sample` measures, `figures` compares two samples, and `table` draws.
"""
