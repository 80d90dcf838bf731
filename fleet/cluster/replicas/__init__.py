"""Database servers that come, go and are promoted while the embedded stack runs.

No process of the stack is restarted for it: all watch the two files that `Servers.publish` writes.
"""
