"""What the processes do now: `cluster status --watch`.

`sample` measures, `figures` compares two samples, and `table` draws.
"""
