from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('access', '0004_account_job_priority'),
        ('jobs', '0001_jobs'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='account_priority',
            field=models.PositiveSmallIntegerField(db_default=5, default=5, editable=False),
        ),
    ]
