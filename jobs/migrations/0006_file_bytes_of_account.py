from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('jobs', '0005_email_counts'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='job',
            index=models.Index(condition=models.Q(('file_bytes__isnull', False)), fields=['account', 'file_bytes'], name='job_file_bytes_of_account'),
        ),
    ]
