"""The embedded stack: every process of Headrace on one machine, run by supervisord.

`stack` brings it up and down, each kind of process is one module or package (`postgres`, `redis`,
`llm`, `node`, `proxy`), and `status` shows other processes what runs. `replicas` adds, removes and
promotes database servers of a running one. Nothing here is needed in production.
"""
