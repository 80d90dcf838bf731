"""The limit of a process's open files, connections among them."""

import resource

# Enough for every connection that HAProxy and the nodes allow, and few enough to close them all.
MOST = 65_536


def raise_open_files_limit() -> None:
    """Raise the soft limit, often 1,024 by default, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
