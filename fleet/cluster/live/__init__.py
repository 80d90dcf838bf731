"""What the parts do now: `cluster status --watch`.

`sample` measures, `figures` compares two samples, and `table` draws.
"""
