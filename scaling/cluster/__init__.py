"""The embedded stack: every part of Headrace on one machine, run by supervisord.

`stack` brings it up and down, each kind of part is one module (`postgres`, `redis`, `llm`, `node`,
`proxy`), and `status` tells other processes what runs. Nothing here is needed in production.
"""
