"""The block that a person reads when the stack is ready."""

from fleet.cluster.credentials import ADMIN_USER, Credentials
from fleet.cluster.plan import Plan

TEXT = """\
Headrace is ready at {url}

  Admin      {url}/admin/   user {user}   password {password}
  API docs   {url}/docs
  Demo key   {key}

  curl -N {url}/v1/chat/completions \\
    -H "Authorization: Bearer {key}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "assistant", "stream": true,
         "messages": [{{"role": "user", "content": "What is a headrace?"}}]}}'

Ctrl-C stops everything. The logs of all processes follow."""


def welcome(plan: Plan, credentials: Credentials) -> str:
    """Return what a newcomer needs to begin."""
    return TEXT.format(
        url=plan.url,
        user=ADMIN_USER,
        password=credentials.admin_password,
        key=credentials.demo_key,
    )
