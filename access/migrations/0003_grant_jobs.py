"""Keys that may call chains at once may also call them in the background."""

from django.db import migrations

GRANT = """
UPDATE access_apikey SET scopes = array_append(scopes, 'jobs')
WHERE 'chat' = ANY(scopes) AND NOT 'jobs' = ANY(scopes)
"""
REVOKE = "UPDATE access_apikey SET scopes = array_remove(scopes, 'jobs')"


class Migration(migrations.Migration):
    dependencies = [("access", "0002_jobs_and_idempotency")]

    operations = [migrations.RunSQL(GRANT, REVOKE)]
