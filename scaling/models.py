"""The permissions of operators' pages, which show no model's rows."""

from django.db import models


class Operations(models.Model):  # noqa: DJ008  (there are no rows to name)
    """A name for permissions to belong to; it has no table and no rows."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("view_database_servers", "Can view database servers"),
            ("change_database_servers", "Can attach and detach database servers"),
            ("view_autoscaler", "Can view the autoscaler"),
            ("view_response_cache", "Can view the response cache"),
            ("clear_response_cache", "Can clear the response cache"),
            ("view_task_status", "Can view the task status"),
        ]
