from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Operations",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
            ],
            options={
                "permissions": [
                    ("view_database_servers", "Can view database servers"),
                    ("change_database_servers", "Can attach and detach database servers"),
                    ("view_autoscaler", "Can view the autoscaler"),
                    ("view_response_cache", "Can view the response cache"),
                    ("clear_response_cache", "Can clear the response cache"),
                    ("view_task_status", "Can view the task status"),
                ],
                "managed": False,
                "default_permissions": (),
            },
        ),
    ]
